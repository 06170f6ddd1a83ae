//! Patterns of lines: text with `*` for anything between.

/// Whether `line` holds the parts of `pattern` in their order.
pub(super) fn matches(pattern: &str, line: &str) -> bool {
    let mut rest = Some(line);
    for part in pattern.split('*') {
        rest = rest
            .and_then(|rest| rest.split_once(part))
            .map(|(_, after)| after);
    }
    rest.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_in_order_and_each_but_once() {
        let table = [
            (
                "guard page was hit at",
                "[ 1.0] BUG: TASK stack guard page was hit at 0",
                true,
            ),
            (
                "at *, in it: yes",
                "thread_info at ff1, task_struct at ff1, in it: yes",
                true,
            ),
            ("at *, in it: yes", "thread_info at ff1, in it: no", false),
            ("b*a", "a b", false),
            ("aa*aa", "aaa", false),
            ("", "anything", true),
            ("*", "", true),
            ("x", "", false),
        ];
        for (pattern, line, expected) in table {
            assert_eq!(matches(pattern, line), expected, "{pattern:?} in {line:?}");
        }
    }
}
