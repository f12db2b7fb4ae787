"""Scripted providers that speak Anthropic's Messages and Google's Gemini: a reasoning model that thinks before it calls.

Asked with tools it thinks and calls one, then, with that result, thinks again and calls another, then speaks. Each
refuses a history in which what it thought, or its signature, did not come back as it said it.
"""

import json

TEXT = "Grüße from the scripted provider: 日本語 and 🦀."
# What a provider of this kind says at each turn, and the proof of it that must come back unchanged.
TURNS = [
    ("First the weather.", "c2lnbmF0dXJlIDE+/w==", ("get_weather", {"city": "Reykjavík"})),
    ("Then the time.", "c2lnbmF0dXJlIDI+/w==", ("get_time", {"zone": "Atlantic/Reykjavik"})),
]


def pieces(text, size=6):
    return [text[at : at + size] for at in range(0, len(text), size)]


class Claude:
    """Anthropic's Messages."""

    def __init__(self, caller):
        self.caller, self.asked = caller, caller.asked

    def answer(self):
        turns = [m for m in self.asked["messages"] if m["role"] == "assistant"]
        for turn, (thought, signature, _) in zip(turns, TURNS):
            block = turn["content"][0]
            expected = {"type": "thinking", "thinking": thought, "signature": signature}
            if {name: block.get(name) for name in expected} != expected:
                return self.fail(f"messages: the thinking block is not as it was: {json.dumps(block)}")
        if not self.asked.get("tools") or len(turns) >= len(TURNS):
            return self.say([{"type": "text", "text": TEXT}], "end_turn")
        thought, signature, (name, arguments) = TURNS[len(turns)]
        self.say(
            [
                {"type": "thinking", "thinking": thought, "signature": signature},
                {"type": "tool_use", "id": f"toolu_{len(turns)}", "name": name, "input": arguments},
            ],
            "tool_use",
        )

    def fail(self, message):
        error = {"type": "invalid_request_error", "message": message}
        self.caller.send_json(400, {"type": "error", "error": error})

    def message(self, content, reason, usage):
        return {
            "id": "msg_scripted",
            "type": "message",
            "role": "assistant",
            "model": self.asked["model"],
            "content": content,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": usage,
        }

    def say(self, blocks, reason):
        usage = {"input_tokens": 20, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 5, "output_tokens": 9}
        if not self.asked.get("stream"):
            return self.caller.send_json(200, self.message(blocks, reason, usage))
        self.caller.begin_stream()
        self.event("message_start", message=self.message([], None, {**usage, "output_tokens": 1}))
        self.event("ping")
        for index, block in enumerate(blocks):
            for name, more in self.told(index, block):
                self.event(name, index=index, **more)
        self.event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": 9})
        self.event("message_stop")
        self.caller.end_stream()

    def told(self, index, block):
        if block["type"] == "text":
            empty, deltas = {"text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
        elif block["type"] == "thinking":
            empty = {"thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        else:
            empty, text = {"input": {}}, json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(text)]]
        yield "content_block_start", {"content_block": {**block, **empty}}
        for delta in deltas:
            yield "content_block_delta", {"delta": delta}
        yield "content_block_stop", {}

    def event(self, name, **more):
        data = json.dumps({"type": name, **more}, ensure_ascii=False)
        self.caller.send_bytes(f"event: {name}\ndata: {data}\n\n".encode())


class Gemini:
    """Google's `generateContent` and `streamGenerateContent`."""

    def __init__(self, caller):
        self.caller, self.asked = caller, caller.asked

    def answer(self):
        turns = [c for c in self.asked["contents"] if c.get("role") == "model"]
        for turn, (_, signature, (name, _)) in zip(turns, TURNS):
            call = next(part for part in turn["parts"] if "functionCall" in part)
            if call.get("thoughtSignature") != signature or call["functionCall"]["name"] != name:
                return self.fail(f"the call is not as it was: {json.dumps(call)}")
        results = [p for c in self.asked["contents"] for p in c["parts"] if "functionResponse" in p]
        if any(not isinstance(p["functionResponse"]["response"], dict) for p in results):
            return self.fail("a response must be an object")
        if not self.asked.get("tools") or len(turns) >= len(TURNS):
            return self.say([{"text": TEXT}])
        thought, signature, (name, arguments) = TURNS[len(turns)]
        call = {"functionCall": {"name": name, "args": arguments}, "thoughtSignature": signature}
        self.say([{"text": thought, "thought": True}, call])

    def fail(self, message):
        error = {"code": 400, "message": message, "status": "INVALID_ARGUMENT"}
        self.caller.send_json(400, {"error": error})

    def body(self, parts, finish):
        candidate = {"index": 0, "content": {"role": "model", "parts": parts}}
        if finish:
            candidate["finishReason"] = "STOP"
        usage = {"promptTokenCount": 25, "candidatesTokenCount": 6, "thoughtsTokenCount": 3, "totalTokenCount": 34}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-scripted", "responseId": "r"}

    def say(self, parts):
        if "stream" not in self.caller.path:
            return self.caller.send_json(200, self.body(parts, True))
        self.caller.begin_stream()
        told = []
        for part in parts:
            if "text" in part:
                told += [{**part, "text": piece} for piece in pieces(part["text"])]
            else:
                told.append(part)
        for at, part in enumerate(told):
            data = json.dumps(self.body([part], at == len(told) - 1), ensure_ascii=False)
            self.caller.send_bytes(f"data: {data}\r\n\r\n".encode())
        self.caller.end_stream()
