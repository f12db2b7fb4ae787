//! What is asked of a model, in no provider's words: the shape in which a request goes from the API its client speaks
//! to the API its provider speaks.
//!
//! Whoever writes one of these out takes it apart without `..`, so that the compiler names the place where a new member
//! would be forgotten: nothing a client asked for may vanish in silence.
//!
//! Values that only pass through (schemas, arguments of a tool) stay JSON text.

use std::fmt;

use serde_json::value::RawValue;

/// One request for an answer.
#[derive(Clone, Default)]
pub struct Conversation {
    /// Who said what, in order. Instructions stand where the client put them.
    pub turns: Vec<Turn>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether it has to.
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may call several at once.
    pub parallel_tools: Option<bool>,
    /// The form the answer must have.
    pub format: Option<Format>,
    /// How much it shall think, and whether that is to be shown.
    pub reasoning: Option<Reasoning>,
    /// Most tokens of output, reasoning included.
    pub output_limit: Option<u64>,
    /// How freely it chooses its words.
    pub sampling: Sampling,
    /// Texts that end the answer.
    pub stop: Vec<String>,
    /// How many answers; at least 1.
    pub choices: u64,
    /// Whether the answer is to be a stream.
    pub stream: bool,
    /// Whose request it is, for the provider's abuse checks.
    pub user: Option<String>,
    /// The service tier asked for, by the client's name.
    pub service_tier: Option<String>,
    /// `low`, `medium` or `high`: how many words.
    pub verbosity: Option<String>,
    /// What the client's API defines as a hint without effect on the answer, by the client's name; a provider that does not
    /// know it need not be told.
    pub hints: Vec<Hint>,
}

/// A hint as it came.
#[derive(Clone)]
pub struct Hint {
    /// The client's name of it.
    pub name: &'static str,
    /// Its JSON text.
    pub value: Box<RawValue>,
}

impl Conversation {
    /// Whether the provider is asked to cache anything for an hour.
    pub fn caches_an_hour(&self) -> bool {
        let tools = self.tools.iter().map(|tool| tool.cache);
        tools.chain(self.blocks().map(|block| block.cache)).any(|cache| cache == Some(CacheTime::Hour))
    }

    /// Bytes of the pictures and documents in it, base64 as they will be sent.
    pub fn inline_bytes(&self) -> u64 {
        let inline = self.blocks().map(|block| match &block.content {
            Content::Image { source, .. } | Content::Document { source, .. } => source.inline_bytes(),
            _ => 0,
        });
        inline.fold(0, u64::saturating_add)
    }

    /// All blocks, those inside results of tools too.
    fn blocks(&self) -> impl Iterator<Item = &Block> {
        let outer = self.turns.iter().flat_map(|turn| &turn.blocks);
        outer.flat_map(|block| {
            let inner = match &block.content {
                Content::ToolResult { blocks, .. } => blocks.as_slice(),
                _ => &[],
            };
            std::iter::once(block).chain(inner)
        })
    }
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Whoever runs the application. `developer` and `system` are one.
    System,
    /// Its user; also the results of tools.
    User,
    /// The model.
    Assistant,
}

/// One turn.
#[derive(Clone)]
pub struct Turn {
    /// Whose it is.
    pub role: Role,
    /// A name that tells speakers of one role apart.
    pub name: Option<String>,
    /// What is in it.
    pub blocks: Vec<Block>,
}

impl Turn {
    /// A turn without a name.
    pub const fn new(role: Role, blocks: Vec<Block>) -> Self {
        Self { role, name: None, blocks }
    }
}

/// One piece of a turn.
#[derive(Clone)]
pub struct Block {
    /// What it is.
    pub content: Content,
    /// The provider is to cache everything up to here, for so long.
    pub cache: Option<CacheTime>,
}

impl From<Content> for Block {
    fn from(content: Content) -> Self {
        Self { content, cache: None }
    }
}

/// How long a provider keeps what it caches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheTime {
    /// About five minutes.
    FiveMinutes,
    /// An hour.
    Hour,
}

/// What a block holds.
#[derive(Clone)]
pub enum Content {
    /// Text.
    Text(String),
    /// What the model said instead of an answer.
    Refusal(String),
    /// A picture.
    Image {
        /// Where it is.
        source: Source,
        /// How closely to look: OpenAI's `low`, `high`, `auto`.
        detail: Option<String>,
    },
    /// Sound.
    Audio {
        /// Base64.
        data: String,
        /// `wav` or `mp3`.
        format: String,
    },
    /// A document.
    Document {
        /// Where it is.
        source: Source,
        /// Its title or file name.
        title: Option<String>,
        /// What it is about; not to be cited.
        context: Option<String>,
        /// Whether the answer shall cite it.
        citations: bool,
    },
    /// The model calls a tool.
    ToolCall(ToolCall),
    /// What the tool answered.
    ToolResult {
        /// Which call it answers.
        id: String,
        /// Text, images and documents.
        blocks: Vec<Block>,
        /// The tool failed.
        is_error: bool,
    },
    /// What the model thought. To be given back unchanged.
    Thinking(Thinking),
    /// Gemini's `thoughtSignature` on the text before it, base64 as it came.
    TextSignature(String),
}

/// The model calls a tool.
#[derive(Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Ties the result to it.
    pub id: String,
    /// Which tool.
    pub name: String,
    /// Its arguments as the model wrote them: JSON text, perhaps broken.
    pub arguments: String,
    /// Gemini's `thoughtSignature` on this call, base64 as it came.
    pub signature: Option<String>,
}

/// What the model thought.
#[derive(Clone, PartialEq, Eq)]
pub enum Thinking {
    /// Thoughts that can be read.
    Open {
        /// The thoughts, or a summary; may be empty.
        text: String,
        /// The provider's proof that they are its own, as it came.
        signature: Option<String>,
    },
    /// Thoughts that only the provider can read: Anthropic's `redacted_thinking`, as it came.
    Sealed {
        /// Opaque.
        data: String,
    },
}

/// Where a picture or a document is.
#[derive(Clone)]
pub enum Source {
    /// Inline.
    Base64 {
        /// Such as `image/png`.
        media_type: String,
        /// Base64.
        data: String,
    },
    /// At an address which the provider fetches.
    Url(String),
    /// Plain text.
    Text(String),
    /// Uploaded to the provider before, under this id.
    File(String),
}

impl Source {
    fn inline_bytes(&self) -> u64 {
        match self {
            Self::Base64 { data, .. } => data.len() as u64,
            Self::Url(_) | Self::Text(_) | Self::File(_) => 0,
        }
    }
}

/// A function the client runs.
#[derive(Clone)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// JSON Schema of its arguments; `None` takes none.
    pub parameters: Option<Box<RawValue>>,
    /// Arguments must keep to the schema.
    pub strict: Option<bool>,
    /// The provider is to cache everything up to here.
    pub cache: Option<CacheTime>,
}

/// Whether the model has to call a tool.
#[derive(Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// As it likes.
    Auto,
    /// It must not.
    None,
    /// Some tool.
    Required,
    /// This one.
    Named(String),
}

/// The form an answer must have.
#[derive(Clone)]
pub enum Format {
    /// Any text.
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON of this schema.
    JsonSchema {
        /// Its name.
        name: Option<String>,
        /// What it is for.
        description: Option<String>,
        /// JSON Schema.
        schema: Box<RawValue>,
        /// The answer must keep to it exactly.
        strict: Option<bool>,
    },
}

/// How much a model shall think. All `None`: as it does by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reasoning {
    /// How hard.
    pub effort: Option<Effort>,
    /// Most tokens of it: Anthropic's `budget_tokens`.
    pub budget: Option<u64>,
    /// Anthropic's `adaptive`: the model decides.
    pub adaptive: bool,
    /// Whether the client wants to see it: OpenAI's `summary`, Anthropic's `display`.
    pub show: Option<bool>,
}

/// How hard a model shall think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// Not at all.
    None,
    /// Hardly.
    Minimal,
    /// A little.
    Low,
    /// As usual.
    Medium,
    /// Hard.
    High,
    /// Harder.
    XHigh,
    /// As hard as it can.
    Max,
}

impl Effort {
    /// From the least to the most.
    pub const ALL: [Self; 7] =
        [Self::None, Self::Minimal, Self::Low, Self::Medium, Self::High, Self::XHigh, Self::Max];

    /// The name OpenAI and Anthropic use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// Reads the name back.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|effort| effort.as_str() == text)
    }
}

/// How freely a model chooses its words. Numbers are JSON text as the client wrote them, checked to be numbers.
#[derive(Clone, Default)]
pub struct Sampling {
    /// 0 to 2 at OpenAI and Google, 0 to 1 at Anthropic.
    pub temperature: Option<f64>,
    /// 0 to 1.
    pub top_p: Option<f64>,
    /// Only the k likeliest.
    pub top_k: Option<u64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// For answers that can be had again.
    pub seed: Option<i64>,
    /// Biases of single tokens: JSON text of an object.
    pub logit_bias: Option<Box<RawValue>>,
    /// Whether the answer shall say how likely its tokens were.
    pub logprobs: bool,
    /// And of so many others.
    pub top_logprobs: Option<u64>,
}

/// None of these shows what was said.
macro_rules! silent {
    ($($name:ident),+ $(,)?) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), " { .. }"))
            }
        })+
    };
}

silent!(
    Conversation,
    Hint,
    Turn,
    Block,
    Content,
    ToolCall,
    Thinking,
    Source,
    Tool,
    ToolChoice,
    Format,
    Sampling
);
