//! What waits for a later release: refused with one sentence that says what works today.

use crate::job::reader::Reader;

/// Refuses keys and values that are known but not built yet.
pub(super) fn refuse(reader: &mut Reader) {
    for (key, today) in
        [("append_row_key", "a row is what `run()` returned today, so let the script put the key into it")]
    {
        if let Some(true) = reader.boolean(key)
            && let Some(node) = reader.given(key)
        {
            let message = format!("`{key}: true` is not available yet: {today}");
            reader.fault(key, node.span, message, Some(format!("remove it, or write `{key}: false`")));
        }
    }
}
