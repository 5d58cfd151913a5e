//! How a setting that cannot work is told.

use buttress_core::{ConfigError, KindData, Name};

static GATE: KindData = KindData::new("gate");
static DOOR: KindData = KindData::new("door");

fn error() -> ConfigError {
    ConfigError::new("width", -1, "must not be negative")
}

#[test]
fn error_says_of_which_policy_it_is_once_that_is_known() {
    assert_eq!(
        (error().policy(), &*error().to_string()),
        (None, "`width` = -1 cannot work: must not be negative")
    );
    let of = error().of(&GATE, &Name::new("pay"));
    assert_eq!(of.policy(), Some("gate \"pay\""));
    assert_eq!(of.to_string(), "gate \"pay\": `width` = -1 cannot work: must not be negative");
    assert_eq!((of.field(), of.value(), of.why()), ("width", "-1", "must not be negative"));
    // The first policy that says so is the one whose setting it is.
    assert_eq!(of.clone().of(&DOOR, &Name::new("shop")), of);
}

#[test]
fn name_of_a_policy_is_quoted_so_that_nothing_in_it_breaks_the_line() {
    let of = error().of(&GATE, &Name::new("two\nlines"));
    assert_eq!(of.policy(), Some(r#"gate "two\nlines""#));
}

#[test]
fn field_of_a_nested_setting_has_its_whole_path() {
    let within = error().within("frame").within("gate");
    assert_eq!(within.field(), "gate.frame.width");
    assert_eq!(within.to_string(), "`gate.frame.width` = -1 cannot work: must not be negative");
}
