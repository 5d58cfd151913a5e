//! Which budget, and its settings: as plain data, for settings files.

use std::fmt;

use buttress_core::ConfigError;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
    ser::SerializeMap,
};

use super::{BudgetConfig, TokenBudgetConfig, in_flight::InFlight, tokens::Tokens};

/// A budget as plain data: which of the four kinds, and its settings. [`Budget::from_config`](crate::Budget::from_config)
/// makes it.
///
/// In a settings file a share of the calls is a plain table, and each other kind a table in one:
/// `{ ratio = 0.1, min_per_second = 1 }`, `{ tokens = { capacity = 500 } }`, `{ grpc = { max_tokens = 10 } }`,
/// `{ in_flight = { ratio = 0.2 } }`. What is left out has its default.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum BudgetRule {
    /// A share of the calls, and so many a second in any case.
    Ratio(BudgetConfig),
    /// Tokens with a price by failure, as the AWS SDKs have it.
    Tokens(TokenBudgetConfig),
    /// Tokens that stop retries below half, as gRPC has it.
    Grpc(GrpcBudgetConfig),
    /// A share of the calls in flight, as Envoy has it.
    InFlight(InFlightBudgetConfig),
}

/// The settings of [`Budget::grpc`](crate::Budget::grpc). The defaults are those of the example in proposal A6.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { max_tokens = 10, token_ratio = 0.1 }")]
#[non_exhaustive]
pub struct GrpcBudgetConfig {
    /// How many tokens there are at first, and at most, 1 to 1000. Default 10.
    pub max_tokens: u32,
    /// The part of a token that a success gives back, from 0.001 to `max_tokens`; three decimals count. Default 0.1.
    pub token_ratio: f64,
}

impl Default for GrpcBudgetConfig {
    fn default() -> Self {
        Self { max_tokens: 10, token_ratio: 0.1 }
    }
}

/// The settings of [`Budget::in_flight`](crate::Budget::in_flight). The defaults are Envoy's.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table such as { ratio = 0.2, min_concurrency = 3 }")]
#[non_exhaustive]
pub struct InFlightBudgetConfig {
    /// The share of the calls in flight that may be retries, `0.0..=1.0`. Default 0.2.
    pub ratio: f64,
    /// So many retries at once are allowed in any case. Default 3.
    pub min_concurrency: u32,
}

impl Default for InFlightBudgetConfig {
    fn default() -> Self {
        Self { ratio: 0.2, min_concurrency: 3 }
    }
}

impl BudgetRule {
    /// Whether these settings can work.
    ///
    /// # Errors
    /// Names the first field that cannot, its value, and why.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Ratio(config) => config.validate(),
            Self::Tokens(config) => config.validate().map_err(|why| why.within("tokens")),
            Self::Grpc(config) => config.tokens().map(drop).map_err(|why| why.within("grpc")),
            Self::InFlight(config) => config.counts().map(drop).map_err(|why| why.within("in_flight")),
        }
    }
}

impl GrpcBudgetConfig {
    pub(super) fn tokens(&self) -> Result<Tokens, ConfigError> {
        Tokens::half(self.max_tokens, self.token_ratio)
    }
}

impl InFlightBudgetConfig {
    pub(super) fn counts(&self) -> Result<InFlight, ConfigError> {
        InFlight::new(self.ratio, self.min_concurrency)
    }
}

impl From<BudgetConfig> for BudgetRule {
    fn from(config: BudgetConfig) -> Self {
        Self::Ratio(config)
    }
}

impl From<TokenBudgetConfig> for BudgetRule {
    fn from(config: TokenBudgetConfig) -> Self {
        Self::Tokens(config)
    }
}

impl From<GrpcBudgetConfig> for BudgetRule {
    fn from(config: GrpcBudgetConfig) -> Self {
        Self::Grpc(config)
    }
}

impl From<InFlightBudgetConfig> for BudgetRule {
    fn from(config: InFlightBudgetConfig) -> Self {
        Self::InFlight(config)
    }
}

impl Serialize for BudgetRule {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        fn table<S: Serializer>(to: S, kind: &str, config: &impl Serialize) -> Result<S::Ok, S::Error> {
            let mut table = to.serialize_map(Some(1))?;
            table.serialize_entry(kind, config)?;
            table.end()
        }
        match self {
            Self::Ratio(config) => config.serialize(to),
            Self::Tokens(config) => table(to, "tokens", config),
            Self::Grpc(config) => table(to, "grpc", config),
            Self::InFlight(config) => table(to, "in_flight", config),
        }
    }
}

impl<'de> Deserialize<'de> for BudgetRule {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Reads)
    }
}

struct Reads;

impl<'de> Visitor<'de> for Reads {
    type Value = BudgetRule;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a budget: { ratio = 0.1, min_per_second = 1 }, or one of { tokens = { .. } }, { grpc = { .. } } and \
             { in_flight = { .. } }",
        )
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<BudgetRule, A::Error> {
        let first = from.next_key::<String>()?;
        let rule = match first.as_deref() {
            Some("tokens") => BudgetRule::Tokens(from.next_value()?),
            Some("grpc") => BudgetRule::Grpc(from.next_value()?),
            Some("in_flight") => BudgetRule::InFlight(from.next_value()?),
            // A share of the calls is the table itself.
            _ => {
                let whole = MapAccessDeserializer::new(Whole { first, rest: from });
                return BudgetConfig::deserialize(whole).map(BudgetRule::Ratio);
            }
        };
        match from.next_key::<String>()? {
            None => Ok(rule),
            Some(other) => Err(A::Error::custom(format_args!("`{other}` is of another kind of budget"))),
        }
    }
}

/// A table of which the first key was read.
struct Whole<A> {
    first: Option<String>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Whole<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.first.take() {
            Some(first) => seed.deserialize(first.into_deserializer()).map(Some),
            None => self.rest.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.rest.next_value_seed(seed)
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use tokio::time::Instant;

    use serde_json::json;

    use super::*;
    use crate::Budget;

    fn read(json: serde_json::Value) -> Result<BudgetRule, String> {
        serde_json::from_value(json).map_err(|why| why.to_string())
    }

    /// Read in the order in which it is written, other than from a value.
    fn refused(text: &str) -> String {
        serde_json::from_str::<BudgetRule>(text).unwrap_err().to_string()
    }

    fn every_kind() -> [BudgetRule; 4] {
        [
            BudgetConfig { ratio: 0.5, ..BudgetConfig::default() }.into(),
            TokenBudgetConfig::default().with_capacity(50).into(),
            GrpcBudgetConfig { max_tokens: 4, ..GrpcBudgetConfig::default() }.into(),
            InFlightBudgetConfig { min_concurrency: 9, ..InFlightBudgetConfig::default() }.into(),
        ]
    }

    #[test]
    fn every_kind_comes_from_a_file_as_it_was_written() {
        for rule in every_kind() {
            assert_eq!(read(serde_json::to_value(rule).unwrap()), Ok(rule));
            let text = toml::to_string(&rule).unwrap();
            assert_eq!(toml::from_str::<BudgetRule>(&text).unwrap(), rule, "{text}");
        }
        assert_eq!(read(json!({})), Ok(BudgetConfig::default().into()));
        assert_eq!(read(json!({ "tokens": {} })), Ok(TokenBudgetConfig::default().into()));
        assert_eq!(read(json!({ "grpc": {} })), Ok(GrpcBudgetConfig::default().into()));
        assert_eq!(read(json!({ "in_flight": {} })), Ok(InFlightBudgetConfig::default().into()));
    }

    #[test]
    fn budget_of_a_rule_is_that_of_its_kind() {
        let now = Instant::now().into_std();
        let [.., grpc, in_flight] = every_kind().map(|rule| Budget::from_config(rule).unwrap());
        assert_eq!((grpc.available(now), in_flight.available(now)), (4.0, 9.0));
        let tokens = Budget::from_config(TokenBudgetConfig::default().with_capacity(50)).unwrap();
        assert_eq!((tokens.available(now), tokens.config()), (50.0, None));
        let ratio = BudgetConfig { ratio: 0.5, ..BudgetConfig::default() };
        assert_eq!(Budget::from_config(ratio).unwrap().config(), Some(ratio));
    }

    #[test]
    fn what_is_no_budget_is_refused_with_what_one_looks_like() {
        for wrong in [json!("tokens"), json!(0.1), json!([0.1, 3]), json!(true)] {
            let why = read(wrong.clone()).unwrap_err();
            assert!(why.contains("a budget: { ratio = 0.1"), "{wrong}: {why}");
        }
        for wrong in [json!({ "tokens": 500 }), json!({ "grpc": 10 }), json!({ "in_flight": 0.2 })] {
            let why = read(wrong.clone()).unwrap_err();
            assert!(why.contains("a table such as { "), "{wrong}: {why}");
        }
        let why = refused(r#"{"tokens":{},"ratio":0.1}"#);
        assert!(why.contains("`ratio` is of another kind of budget"), "{why}");
        assert!(refused(r#"{"rato":0.1}"#).contains("unknown field `rato`, expected"));
        assert!(refused(r#"{"ratio":0.1,"tokens":{}}"#).contains("unknown field `tokens`"));
    }

    #[test]
    fn settings_that_cannot_work_are_named_with_their_kind() {
        let wrong: [(BudgetRule, &str); 4] = [
            (BudgetConfig { ratio: -1.0, ..BudgetConfig::default() }.into(), "ratio"),
            (TokenBudgetConfig::default().with_capacity(u32::MAX).into(), "tokens.capacity"),
            (GrpcBudgetConfig { max_tokens: 0, token_ratio: 0.1 }.into(), "grpc.max_tokens"),
            (InFlightBudgetConfig { ratio: 1.5, min_concurrency: 3 }.into(), "in_flight.ratio"),
        ];
        for (rule, field) in wrong {
            assert_eq!(rule.validate().unwrap_err().field(), field);
            assert!(Budget::from_config(rule).is_err());
        }
        assert!(every_kind().iter().all(|rule| rule.validate().is_ok()));
    }
}
