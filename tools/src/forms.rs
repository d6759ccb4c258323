//! The values of fields in words, for all generated documents.

use bandsync_engine::wire::schema::Form;

/// Describes the values of a form, for people. Words are marked as code.
pub fn values(form: &Form) -> String {
    let list = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>();
    let at_least = |min: &Option<u32>| min.filter(|&min| min > 0);
    match form {
        Form::Boolean => "`true`, `false`".to_owned(),
        Form::Constant(value) => format!("`{value}`"),
        Form::Number => "number".to_owned(),
        Form::NotNegative => "number ≥ 0".to_owned(),
        Form::Within(min, max) => format!("{min} to {max}"),
        Form::Whole => "whole number".to_owned(),
        Form::WholeWithin(min, max) => format!("whole, {min} to {max}"),
        Form::WholeOf(values) => {
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            values.join(", ")
        }
        Form::Words(words) => list(words).join(", "),
        Form::Text { max: Some(max), min, .. } => match at_least(min) {
            Some(min) => format!("text of {min} to {max} characters"),
            None => format!("text of up to {max} characters"),
        },
        Form::Text { pattern: Some(pattern), .. } => format!("text like `{pattern}`"),
        Form::Text { .. } => "text".to_owned(),
        Form::Cut { chars, .. } => format!("text, cut to {chars} characters"),
        Form::Sent(_) | Form::Received(_) => "object".to_owned(),
        Form::List(_) => "array".to_owned(),
    }
}
