//! The keys that are only words: environment variables, levels, the profiler.

use std::collections::BTreeMap;

use crate::job::error::shown;
use crate::job::reader::Reader;
use crate::job::spec::{LoggingLevel, ProfilingModule};
use crate::job::tree::Value;

/// Reads `environment_variables`. A value is the text as typed: `1.10` and `yes` stay what they are.
pub(super) fn environment_variables(reader: &mut Reader) -> BTreeMap<String, String> {
    const KEY: &str = "environment_variables";
    let Some(node) = reader.given(KEY) else { return BTreeMap::new() };
    let Value::Mapping(entries) = node.value else {
        reader.must_be(KEY, &node);
        return BTreeMap::new();
    };
    let mut variables = BTreeMap::new();
    for (name, value) in entries {
        if name.text.is_empty() || name.text.contains(['=', '\0']) {
            let message = format!("`{}` can't be the name of an environment variable", shown(&name.text));
            reader.fault(KEY, name.span, message, Some("a name is not empty and holds no `=`".to_string()));
            continue;
        }
        let key = format!("{KEY}.{}", name.text);
        match value.scalar() {
            Some(scalar) if !value.is_null() && !scalar.text.contains('\0') => {
                variables.insert(name.text, scalar.text.clone());
            }
            _ => {
                let message = format!("`{}` must be text, not {}", shown(&key), value.kind_name());
                let hint = format!("write `{}: \"…\"`, or `{0}: \"\"` for an empty one", shown(&name.text));
                reader.fault(&key, value.span, message, Some(hint));
            }
        }
    }
    variables
}

/// Reads `logging_level`.
pub(super) fn logging_level(reader: &mut Reader) -> LoggingLevel {
    let levels = [LoggingLevel::Warning, LoggingLevel::Info, LoggingLevel::Debug].map(|level| (level.name(), level));
    reader.choice("logging_level", &levels).unwrap_or(LoggingLevel::Info)
}

/// Reads `profiling_module`; an empty text is none, as in the original.
pub(super) fn profiling_module(reader: &mut Reader) -> Option<ProfilingModule> {
    let node = reader.given("profiling_module")?;
    if node.scalar().is_some_and(|scalar| scalar.text.is_empty()) {
        return None;
    }
    let modules = [ProfilingModule::CProfile, ProfilingModule::Profile].map(|module| (module.name(), module));
    reader.choice("profiling_module", &modules)
}

/// Reads `overrides`, which a resolved job records.
pub(super) fn recorded_overrides(reader: &mut Reader) -> Vec<String> {
    let Some(node) = reader.given("overrides") else { return Vec::new() };
    let texts = match &node.value {
        Value::Sequence(items) => items.iter().map(|item| item.scalar().map(|scalar| scalar.text.clone())).collect(),
        _ => None,
    };
    texts.unwrap_or_else(|| {
        reader.must_be("overrides", &node);
        Vec::new()
    })
}
