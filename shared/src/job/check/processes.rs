//! Nodes, processes and devices.

use std::collections::HashSet;

use crate::job::error::shown;
use crate::job::reader::Reader;
use crate::job::spec::SurplusProcesses;
use crate::job::tree::{Node, Value};

pub(super) struct Processes {
    pub(super) nodes: Option<u32>,
    pub(super) per_node: Option<u32>,
    pub(super) gpus: Option<Vec<String>>,
    pub(super) surplus: SurplusProcesses,
    pub(super) pool: String,
    pub(super) priority: u8,
}

/// Reads `node_count`, `process_count_per_node`, `gpus`, `surplus_processes`, `compute_target` and `priority`.
pub(super) fn read(reader: &mut Reader) -> Processes {
    let surplus =
        [("unset", SurplusProcesses::Unset), ("hide", SurplusProcesses::Hide), ("share", SurplusProcesses::Share)];
    Processes {
        nodes: nodes(reader),
        per_node: reader.whole("process_count_per_node", 1..=10_000).map(|count| count as u32),
        gpus: gpus(reader),
        surplus: reader.choice("surplus_processes", &surplus).unwrap_or(SurplusProcesses::Unset),
        pool: pool(reader),
        priority: reader.whole("priority", 0..=9).unwrap_or(4) as u8,
    }
}

fn nodes(reader: &mut Reader) -> Option<u32> {
    let node = reader.given("node_count")?;
    if node.scalar().is_some_and(|scalar| scalar.text.eq_ignore_ascii_case("max")) {
        return None;
    }
    reader.whole("node_count", 1..=i64::from(u32::MAX)).map(|count| count as u32)
}

/// A pool names a queue and is part of paths.
fn pool(reader: &mut Reader) -> String {
    const DEFAULT: &str = "default";
    let Some((scalar, node)) = reader.scalar("compute_target") else { return DEFAULT.into() };
    let pool = scalar.text;
    let valid = pool.len() <= 64
        && pool.starts_with(|c: char| c.is_ascii_alphanumeric())
        && pool.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if !valid {
        reader.must_be("compute_target", &node);
        return DEFAULT.into();
    }
    pool
}

fn gpus(reader: &mut Reader) -> Option<Vec<String>> {
    let node = reader.given("gpus")?;
    let items: Vec<(String, Node)> = match &node.value {
        Value::Sequence(items) => items
            .iter()
            .map(|item| (item.scalar().map_or(String::new(), |scalar| scalar.text.clone()), item.clone()))
            .collect(),
        Value::Scalar(scalar) if scalar.text.eq_ignore_ascii_case("all") => return None,
        Value::Scalar(scalar) if scalar.text.trim().is_empty() => Vec::new(),
        Value::Scalar(scalar) => scalar.text.split(',').map(|item| (item.trim().to_string(), node.clone())).collect(),
        Value::Mapping(_) => {
            reader.must_be("gpus", &node);
            return None;
        }
    };
    let mut seen = HashSet::new();
    let mut gpus = Vec::new();
    for (text, item) in items {
        let Some(device) = device(&text) else {
            let message = format!("`{}` in `gpus` is no device", shown(&text));
            let hint = "write an index or a UUID as `nvidia-smi -L` shows it: `gpus: [0, 1]`, `gpus: [GPU-8932f937-…]`";
            reader.fault("gpus", item.span, message, Some(hint.to_string()));
            continue;
        };
        if seen.insert(device.clone()) {
            gpus.push(device);
        } else {
            let message = format!("`gpus` names device `{device}` twice");
            let hint = "name each device once; with more processes than devices see `surplus_processes`";
            reader.fault("gpus", item.span, message, Some(hint.to_string()));
        }
    }
    Some(gpus)
}

/// An index, without leading zeros, or a UUID of a GPU or of a MIG slice.
fn device(text: &str) -> Option<String> {
    if let Ok(index) = text.parse::<u16>()
        && text.chars().all(|c| c.is_ascii_digit())
    {
        return Some(index.to_string());
    }
    let id = text.strip_prefix("GPU-").or(text.strip_prefix("MIG-"))?;
    let valid =
        !id.is_empty() && id.len() <= 100 && id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '/'));
    valid.then(|| text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_indices_or_uuids() {
        assert_eq!(device("0").as_deref(), Some("0"));
        assert_eq!(device("07").as_deref(), Some("7"));
        for good in ["GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "MIG-GPU-8932f937/1/0", "GPU-8932f937"] {
            assert_eq!(device(good).as_deref(), Some(good));
        }
        for bad in ["", "-1", "+1", "1.5", "cuda:0", "GPU-", "gpu-1", "GPU-a b", "99999999"] {
            assert_eq!(device(bad), None, "{bad}");
        }
    }
}
