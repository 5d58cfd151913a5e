//! Reads PromQL as far as it takes to know which metrics and labels an expression refers to.

use std::collections::BTreeSet;

/// What an expression refers to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct References {
    /// Names of metrics.
    pub(crate) metrics: BTreeSet<String>,
    /// In selectors: the metric, the label, how it is matched (`=`, `!=`, `=~`, `!~`), and by what.
    pub(crate) matched: BTreeSet<[String; 4]>,
    /// In `by (…)`, `without (…)`, `on (…)` and the like.
    pub(crate) grouped: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Sign(String),
}

const GROUPING: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const WORDS: [&str; 9] = ["and", "or", "unless", "bool", "offset", "inf", "nan", "start", "end"];

fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = expression.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            c if c.is_whitespace() => {}
            '"' | '\'' | '`' => {
                let mut text = String::new();
                while let Some(inner) = rest.next() {
                    match inner {
                        '\\' if c != '`' => text.extend(rest.next()),
                        inner if inner == c => break,
                        inner => text.push(inner),
                    }
                }
                tokens.push(Token::Text(text));
            }
            // A range or a subquery: durations and Grafana's `$__rate_interval`, no names.
            '[' => while rest.next().is_some_and(|inner| inner != ']') {},
            c if c.is_ascii_alphabetic() || matches!(c, '_' | ':' | '$') => {
                let mut word = String::from(c);
                while let Some(more) = rest.next_if(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':')) {
                    word.push(more);
                }
                tokens.push(Token::Word(word));
            }
            c if c.is_ascii_digit() || c == '.' => {
                while rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '.').is_some() {}
                tokens.push(Token::Sign("0".into()));
            }
            c => {
                let mut sign = String::from(c);
                if matches!(c, '=' | '!' | '<' | '>') {
                    sign.extend(rest.next_if(|next| matches!(next, '=' | '~')));
                }
                tokens.push(Token::Sign(sign));
            }
        }
    }
    tokens
}

pub(crate) fn references(expression: &str) -> References {
    let mut found = References::default();
    let sign = |token: Option<&Token>, text: &str| token == Some(&Token::Sign(text.into()));
    let tokens = tokens(expression);
    let mut metric = String::new();
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            Token::Word(word) if GROUPING.contains(&word.as_str()) && sign(tokens.get(at + 1), "(") => {
                at += 2;
                while at < tokens.len() && !sign(tokens.get(at), ")") {
                    if let Token::Word(label) = &tokens[at] {
                        found.grouped.insert(label.clone());
                    }
                    at += 1;
                }
            }
            // A function, or an aggregation with its grouping first.
            Token::Word(word)
                if sign(tokens.get(at + 1), "(")
                    || matches!(tokens.get(at + 1), Some(Token::Word(w)) if GROUPING.contains(&w.as_str()))
                        && sign(tokens.get(at + 2), "(")
                        && ["sum", "max", "min", "avg", "count"].contains(&word.as_str()) => {}
            Token::Word(word)
                if WORDS.contains(&word.as_str())
                    || GROUPING.contains(&word.as_str())
                    || word.starts_with('$') => {}
            Token::Word(word) => {
                metric.clone_from(word);
                found.metrics.insert(word.clone());
            }
            Token::Sign(open) if open == "{" => {
                at += 1;
                while at < tokens.len() && !sign(tokens.get(at), "}") {
                    if let (Token::Word(label), Some(Token::Sign(how)), Some(Token::Text(value))) =
                        (&tokens[at], tokens.get(at + 1), tokens.get(at + 2))
                    {
                        found.matched.insert([&metric, label, how, value].map(Clone::clone));
                        at += 2;
                    }
                    at += 1;
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

#[test]
fn references_are_found_in_any_corner_of_an_expression() {
    let found = references(
        r#"histogram_quantile(0.99, sum by (le, name) (rate(a_seconds_bucket{name=~"$name", x!="}"}[5m])))
           / on (job) group_left sum(increase(b_total{state='open'}[$__rate_interval] offset 1h)) without (zone)
           > bool 1.5e3 and c unless max_over_time(d{}[1h:5m]) == inf"#,
    );
    let set = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(found.metrics, set(&["a_seconds_bucket", "b_total", "c", "d"]));
    assert_eq!(found.grouped, set(&["le", "name", "job", "zone"]));
    let matched = [
        ["a_seconds_bucket", "name", "=~", "$name"],
        ["a_seconds_bucket", "x", "!=", "}"],
        ["b_total", "state", "=", "open"],
    ];
    assert_eq!(found.matched, matched.map(|one| one.map(str::to_owned)).into());
}
