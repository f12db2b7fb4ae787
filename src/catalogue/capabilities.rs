//! What models can do where those of one dialect differ, from `config/capabilities.toml`, compiled in and checked by a
//! test. A difference between models is a line in that file, never a branch on a model's name.

use std::sync::LazyLock;

use serde::Deserialize;

use super::DialectKind;

const BUNDLED: &str = include_str!("../../config/capabilities.toml");

/// How a model thinks before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThinkingStyle {
    /// It does not.
    None,
    /// For so many tokens: Anthropic's `budget_tokens`, Gemini 2.5's `thinkingBudget`.
    #[default]
    Budget,
    /// As long as it finds right, for an effort.
    Adaptive,
    /// The same, and it cannot be turned off.
    Always,
    /// Gemini 3's `thinkingLevel`.
    Level,
}

/// What one model can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `temperature`, `top_p` and `top_k` are accepted.
    pub sampling: bool,
    /// How it thinks.
    pub thinking: ThinkingStyle,
    /// The efforts it accepts, by OpenAI's names, from the least to the most.
    pub efforts: Vec<String>,
    /// A tool can be demanded.
    pub forced_tools: bool,
    /// The last turn may be the model's own, to be continued.
    pub prefill: bool,
    /// Instructions may stand between turns.
    pub system_turns: bool,
    /// Answers can be held to a schema.
    pub json_schema: bool,
    /// Pictures may be shown.
    pub images: bool,
    /// Documents may be shown.
    pub documents: bool,
    /// Sound may be played.
    pub audio: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            sampling: true,
            thinking: ThinkingStyle::default(),
            efforts: Vec::new(),
            forced_tools: true,
            prefill: true,
            system_turns: true,
            json_schema: true,
            images: true,
            documents: true,
            audio: true,
        }
    }
}

/// What a model of this dialect can do, by the provider's own name of it.
pub fn capabilities(dialect: DialectKind, model: &str) -> &'static Capabilities {
    static RULES: LazyLock<Vec<Rule>> =
        LazyLock::new(|| parse(BUNDLED).expect("a test reads the same compiled-in file"));
    let name = model.rsplit('/').next().unwrap_or(model);
    let fits = |rule: &&Rule| rule.dialect == dialect && rule.fits(name);
    &RULES.iter().find(fits).expect("every dialect has a rule without models").capabilities
}

struct Rule {
    dialect: DialectKind,
    /// Beginnings of names; a final `$` asks for the whole name. None of them: every model.
    models: Vec<String>,
    capabilities: Capabilities,
}

impl Rule {
    fn fits(&self, name: &str) -> bool {
        self.models.is_empty()
            || self.models.iter().any(|model| match model.strip_suffix('$') {
                Some(whole) => whole == name,
                None => name.starts_with(model.as_str()),
            })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rule: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    dialect: DialectKind,
    #[serde(default)]
    models: Vec<String>,
    sampling: Option<bool>,
    thinking: Option<ThinkingStyle>,
    efforts: Option<Vec<String>>,
    forced_tools: Option<bool>,
    prefill: Option<bool>,
    system_turns: Option<bool>,
    json_schema: Option<bool>,
    images: Option<bool>,
    documents: Option<bool>,
    audio: Option<bool>,
}

impl Row {
    /// What the row says, over what is usual.
    fn over(&self, usual: &Capabilities) -> Capabilities {
        Capabilities {
            sampling: self.sampling.unwrap_or(usual.sampling),
            thinking: self.thinking.unwrap_or(usual.thinking),
            efforts: self.efforts.clone().unwrap_or_else(|| usual.efforts.clone()),
            forced_tools: self.forced_tools.unwrap_or(usual.forced_tools),
            prefill: self.prefill.unwrap_or(usual.prefill),
            system_turns: self.system_turns.unwrap_or(usual.system_turns),
            json_schema: self.json_schema.unwrap_or(usual.json_schema),
            images: self.images.unwrap_or(usual.images),
            documents: self.documents.unwrap_or(usual.documents),
            audio: self.audio.unwrap_or(usual.audio),
        }
    }
}

/// The rules in the order of the file, every dialect's own rule last.
fn parse(text: &str) -> Result<Vec<Rule>, toml::de::Error> {
    let file: File = toml::from_str(text)?;
    let usual_of = |dialect: DialectKind| {
        let own = file.rule.iter().find(|row| row.dialect == dialect && row.models.is_empty());
        own.map_or_else(Capabilities::default, |row| row.over(&Capabilities::default()))
    };
    let mut rules: Vec<Rule> = file
        .rule
        .iter()
        .map(|row| Rule {
            dialect: row.dialect,
            models: row.models.clone(),
            capabilities: row.over(&usual_of(row.dialect)),
        })
        .collect();
    rules.sort_by_key(|rule| rule.models.is_empty());
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_in_file_has_a_rule_for_every_dialect() {
        let rules = parse(BUNDLED).expect("the compiled-in file");
        for dialect in DialectKind::ALL {
            assert_eq!(
                rules.iter().filter(|rule| rule.dialect == dialect && rule.models.is_empty()).count(),
                1,
                "{dialect:?}"
            );
        }
    }

    #[test]
    fn the_first_rule_that_fits_counts_over_the_dialects_own() {
        let rules = parse(
            "[[rule]]\ndialect = 'gemini'\nimages = false\n[[rule]]\ndialect = 'gemini'\nmodels = ['a-1$']\naudio = false\n\
             [[rule]]\ndialect = 'gemini'\nmodels = ['a-', 'b']\nprefill = false\n",
        )
        .expect("rules");
        let of = |name: &str| {
            let rule = rules.iter().find(|rule| rule.fits(name)).expect("a rule");
            (rule.capabilities.images, rule.capabilities.audio, rule.capabilities.prefill)
        };
        assert_eq!(of("a-1"), (false, false, true));
        assert_eq!(of("a-10"), (false, true, false));
        assert_eq!(of("b2"), (false, true, false));
        assert_eq!(of("c"), (false, true, true));
    }

    #[test]
    fn a_members_mistake_is_refused() {
        assert!(parse("[[rule]]\ndialect = 'gemini'\ncolour = 'red'\n").is_err());
    }
}
