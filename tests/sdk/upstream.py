#!/usr/bin/env python3
"""A scripted provider in OpenAI's shape, for what the built-in demo provider does not do.

    python3 upstream.py          prints `listening on 127.0.0.1:PORT`, then answers until it is killed

What it answers is decided by the model that is asked for, up to a `~`; see `SCRIPTS`. What follows the `~` makes a
model that no other test has put to rest. Every request is noted under its `user` field,
so that a test which sends `user="x"` reads at `GET /requests/x` what reached the provider, and whether the caller
hung up. Standard library only.
"""

import base64
import http.server
import itertools
import json
import struct
import sys
import threading
import time

import tongues

KEY = "sk-scripted-0123456789abcdefghij"
TEXT = "Grüße from the scripted provider: 日本語 and 🦀."
VECTOR = [0.5, -0.25, 0.125, -1.5]
ORDER = {"item": "Crème brûlée", "count": 2}

NOTES = {}
NOTES_LOCK = threading.Lock()


def usage(prompt, completion):
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def pieces(text, size=5):
    return [text[at : at + size] for at in range(0, len(text), size)]


def tool_calls():
    """Two calls of one turn: `(id, name, arguments)`."""
    return [
        ("call_a", "get_weather", json.dumps({"city": "Reykjavík"}, ensure_ascii=False)),
        ("call_b", "get_time", json.dumps({"zone": "Atlantic/Reykjavik"})),
    ]


class Caller(http.server.BaseHTTPRequestHandler):
    """One connection from the gateway."""

    protocol_version = "HTTP/1.1"

    # Plumbing

    def log_message(self, *_):
        pass

    def send_json(self, status, value, headers=()):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        for name, header in headers:
            self.send_header(name, header)
        self.end_headers()
        self.wfile.write(body)

    def fail(self, status, message, kind, code, param=None, headers=()):
        error = {"message": message, "type": kind, "param": param, "code": code}
        self.send_json(status, {"error": error}, headers)

    def begin_stream(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()

    def send_bytes(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def send_event(self, value):
        data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        self.send_bytes(f"data: {data}\n\n".encode())

    def end_stream(self):
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def chunk(self, delta=None, finish=None, **more):
        """A chat chunk with one choice, and members that no gateway has heard of."""
        asked_for_usage = (self.asked.get("stream_options") or {}).get("include_usage")
        value = {
            "id": "chatcmpl-scripted",
            "object": "chat.completion.chunk",
            "created": 1790000000,
            "model": self.asked["model"],
            "system_fingerprint": "fp_scripted",
            "obfuscation": "aZ3",
            "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish, "logprobs": None}],
        }
        if asked_for_usage:
            value["usage"] = None
        value.update(more)
        return value

    def finish_chat(self, finish, prompt, completion):
        self.send_event(self.chunk(finish=finish))
        if (self.asked.get("stream_options") or {}).get("include_usage"):
            self.send_event(self.chunk(choices=[], usage=usage(prompt, completion)))
        self.send_event("[DONE]")
        self.end_stream()

    def answer_chat(self, message, finish, prompt, completion):
        self.send_json(
            200,
            {
                "id": "chatcmpl-scripted",
                "object": "chat.completion",
                "created": 1790000000,
                "model": self.asked["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "refusal": None, **message},
                        "finish_reason": finish,
                        "logprobs": None,
                    }
                ],
                "usage": usage(prompt, completion),
                "system_fingerprint": "fp_scripted",
                "vendor_extension": {"kept": True},
            },
        )

    # Scripts

    def chat(self, text=TEXT):
        if not self.asked.get("stream"):
            return self.answer_chat({"content": text}, "stop", 11, 7)
        self.begin_stream()
        self.send_event(self.chunk({"role": "assistant", "content": ""}))
        for piece in pieces(text):
            self.send_event(self.chunk({"content": piece}))
        self.finish_chat("stop", 11, 7)

    def tools_by_turns(self):
        """The fragments of both calls come mixed: allowed, and more than the SDKs' stream helpers can follow."""
        self.tools(by_turns=True)

    def tools(self, by_turns=False):
        """Calls two tools at once; when it has their results, it speaks."""
        if self.asked["messages"][-1]["role"] == "tool":
            results = [m["content"] for m in self.asked["messages"] if m["role"] == "tool"]
            return self.chat("It is " + " and ".join(results) + ".")
        if not self.asked.get("stream"):
            calls = [
                {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}
                for id_, name, arguments in tool_calls()
            ]
            return self.answer_chat({"content": None, "tool_calls": calls}, "tool_calls", 40, 22)
        self.begin_stream()
        self.send_event(self.chunk({"role": "assistant", "content": None}))
        calls = []
        for index, (id_, name, arguments) in enumerate(tool_calls()):
            function = {"name": name, "arguments": ""}
            first = {"index": index, "id": id_, "type": "function", "function": function}
            rest = [{"index": index, "function": {"arguments": piece}} for piece in pieces(arguments, 4)]
            calls.append([first, *rest])
        fragments = itertools.chain(*calls)
        if by_turns:
            fragments = itertools.chain(*itertools.zip_longest(*calls))
        for fragment in filter(None, fragments):
            self.send_event(self.chunk({"tool_calls": [fragment]}))
        self.finish_chat("tool_calls", 40, 22)

    def structured(self):
        """Answers in the schema it was given, and refuses to answer without one."""
        asked = self.asked.get("response_format") or {}
        schema = (asked.get("json_schema") or {}).get("schema") or {}
        if asked.get("type") != "json_schema" or set(schema.get("properties", {})) != set(ORDER):
            return self.fail(400, "no such schema", "invalid_request_error", "invalid_json_schema", "response_format")
        self.chat(json.dumps(ORDER, ensure_ascii=False))

    def completion(self):
        base = {"id": "cmpl-scripted", "object": "text_completion", "created": 1790000000, "model": self.asked["model"]}

        def choice(text, finish):
            return [{"index": 0, "text": text, "finish_reason": finish, "logprobs": None}]

        if not self.asked.get("stream"):
            return self.send_json(200, {**base, "choices": choice(TEXT, "stop"), "usage": usage(3, 7)})
        self.begin_stream()
        for piece in pieces(TEXT):
            self.send_event({**base, "choices": choice(piece, None)})
        self.send_event({**base, "choices": choice("", "stop")})
        if (self.asked.get("stream_options") or {}).get("include_usage"):
            self.send_event({**base, "choices": [], "usage": usage(3, 7)})
        self.send_event("[DONE]")
        self.end_stream()

    def embed(self):
        packed = base64.b64encode(struct.pack(f"<{len(VECTOR)}f", *VECTOR)).decode()
        self.embedded(packed if self.asked.get("encoding_format") == "base64" else VECTOR)

    def embed_floats(self):
        """Has never heard of `encoding_format`, as many a self-hosted server."""
        self.embedded(VECTOR)

    def embedded(self, vector):
        inputs = self.asked["input"]
        count = len(inputs) if isinstance(inputs, list) else 1
        data = [{"object": "embedding", "index": i, "embedding": vector} for i in range(count)]
        tokens = {"prompt_tokens": 5, "total_tokens": 5}
        self.send_json(200, {"object": "list", "data": data, "model": self.asked["model"], "usage": tokens})

    def refuses_400(self):
        self.fail(
            400,
            "Unsupported value: 'temperature' does not support 9 with this model.",
            "invalid_request_error",
            "unsupported_value",
            "temperature",
        )

    def missing_404(self):
        self.fail(404, "The model does not exist.", "invalid_request_error", "model_not_found", "model")

    def limited_once(self):
        """429 with `retry-after: 1` at first, an answer to whoever comes again."""
        if self.note["number"] > 1:
            return self.chat()
        self.limited()

    def limited(self):
        headers = [("retry-after", "1")]
        self.fail(429, "Rate limit reached for requests.", "requests", "rate_limit_exceeded", headers=headers)

    def unpaid(self):
        message = "You exceeded your current quota, please check your plan and billing details."
        self.fail(429, message, "insufficient_quota", "insufficient_quota")

    def fails_500(self):
        self.fail(500, "The server had an error.", "server_error", None)

    def fails_503(self):
        self.fail(503, "The engine is overloaded.", "service_unavailable_error", "server_is_overloaded")

    def page_502(self):
        body = b"<html><body>502 Bad Gateway</body></html>"
        self.send_response(502)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream_error(self):
        self.begin_stream()
        self.send_event(self.chunk({"role": "assistant", "content": ""}))
        self.send_event(self.chunk({"content": "So far so "}))
        error = {"message": "The server had an error.", "type": "server_error", "param": None, "code": "engine_fell_over"}
        self.send_event({"error": error})
        self.end_stream()

    def stream_error_first(self):
        self.begin_stream()
        self.send_event(self.chunk({"role": "assistant", "content": ""}))
        error = {"message": "Overloaded.", "type": "server_error", "param": None, "code": "overloaded"}
        self.send_event({"error": error})
        self.end_stream()

    def stream_dies(self):
        self.begin_stream()
        self.send_event(self.chunk({"role": "assistant", "content": ""}))
        self.send_event(self.chunk({"content": "So far so "}))
        self.hang_up()

    def stream_stops_short(self):
        """Ends in good order, but without a finish reason."""
        self.begin_stream()
        self.send_event(self.chunk({"content": "So far so "}))
        self.end_stream()

    def slow(self):
        """A word every 50 ms for half a minute, or until the caller leaves."""
        self.begin_stream()
        self.send_event(self.chunk({"role": "assistant", "content": ""}))
        for number in range(600):
            self.send_event(self.chunk({"content": f"word{number} "}))
            time.sleep(0.05)
        self.finish_chat("stop", 11, 600)

    def slow_whole(self):
        time.sleep(1.5)
        self.chat()

    def hang_up(self):
        self.close_connection = True
        self.connection.shutdown(2)

    def claude(self):
        tongues.Claude(self).answer()

    def gemini(self):
        tongues.Gemini(self).answer()

    # Routes

    def do_GET(self):
        _, _, name = self.path.rpartition("/requests/")
        with NOTES_LOCK:
            self.send_json(200, NOTES.get(name, []))

    def do_POST(self):
        self.asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        for name in ["x-api-key", "x-goog-api-key"]:
            if name in headers:
                headers["authorization"] = f"Bearer {headers.pop(name)}"
        if headers.get("authorization") != f"Bearer {KEY}":
            presented = headers.get("authorization", "").removeprefix("Bearer ")
            headers["authorization"] = "another key"
        else:
            presented = None
            headers["authorization"] = "the right key"
        with NOTES_LOCK:
            user = self.asked.get("user") or (self.asked.get("metadata") or {}).get("user_id", "")
            notes = NOTES.setdefault(user, [])
            self.note = {"number": len(notes) + 1, "path": self.path, "headers": headers, "body": self.asked}
            notes.append(self.note)
        if presented is not None:
            return self.fail(
                401, f"Incorrect API key provided: {presented}.", "invalid_request_error", "invalid_api_key"
            )
        script = SCRIPTS.get((self.path, self.asked.get("model", "").partition("~")[0]))
        if self.path == "/v1/messages":
            script = Caller.claude
        elif self.path.startswith("/v1beta/models/gemini-"):
            script = Caller.gemini
        if script is None:
            return self.fail(404, f"no script for {self.path} {self.asked['model']}", "invalid_request_error", None)
        try:
            script(self)
            self.note["ended"] = "answered"
        except OSError:
            self.note["ended"] = "caller left"
            self.close_connection = True


CHAT, LEGACY, EMBEDDINGS = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
SCRIPTS = {
    (CHAT, "chat"): Caller.chat,
    (CHAT, "org/chat"): Caller.chat,
    (CHAT, "tools"): Caller.tools,
    (CHAT, "tools-by-turns"): Caller.tools_by_turns,
    (CHAT, "structured"): Caller.structured,
    (LEGACY, "legacy"): Caller.completion,
    (EMBEDDINGS, "embed"): Caller.embed,
    (EMBEDDINGS, "embed-floats"): Caller.embed_floats,
    (CHAT, "refuses-400"): Caller.refuses_400,
    (CHAT, "missing-404"): Caller.missing_404,
    (CHAT, "limited-once"): Caller.limited_once,
    (CHAT, "limited"): Caller.limited,
    (CHAT, "unpaid"): Caller.unpaid,
    (CHAT, "fails-500"): Caller.fails_500,
    (CHAT, "fails-503"): Caller.fails_503,
    (CHAT, "page-502"): Caller.page_502,
    (CHAT, "stream-error"): Caller.stream_error,
    (CHAT, "stream-error-first"): Caller.stream_error_first,
    (CHAT, "stream-dies"): Caller.stream_dies,
    (CHAT, "stream-stops-short"): Caller.stream_stops_short,
    (CHAT, "slow"): Caller.slow,
    (CHAT, "slow-whole"): Caller.slow_whole,
}


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Caller)
    server.daemon_threads = True
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
