//! `trapline msr diff A B`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Failure;
use crate::cli::{Status, out};

/// Compare two files of `trapline msr matrix --json` or `list --json`, and print what differs
#[derive(Debug, clap::Args)]
pub(super) struct Diff {
    /// One host, kernel or CPU
    a: PathBuf,
    /// The other
    b: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
enum DiffError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not what trapline msr matrix --json prints", path.display())]
    Json {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("{} has no items of MSRs", path.display())]
    Shape { path: PathBuf },
    #[error("{} is a {a} and {} a {b}: they cannot be compared", one.display(), other.display())]
    Schemas {
        one: PathBuf,
        a: String,
        other: PathBuf,
        b: String,
    },
}

#[derive(Debug, serde::Serialize)]
struct Item {
    index: String,
    name: Value,
    field: String,
    a: Value,
    b: Value,
}

type Rows = BTreeMap<u64, Map<String, Value>>;

impl Diff {
    pub(super) fn run(&self) -> Result<Status, Failure> {
        let (a_schema, a) = read(&self.a).map_err(Failure::usage)?;
        let (b_schema, b) = read(&self.b).map_err(Failure::usage)?;
        if a_schema != b_schema {
            return Err(Failure::usage(DiffError::Schemas {
                one: self.a.clone(),
                a: a_schema,
                other: self.b.clone(),
                b: b_schema,
            }));
        }
        let items = compare(&a, &b);
        if self.json {
            out::json("msr-diff", &items)?;
            return Ok(Status::Ok);
        }
        for item in &items {
            let name = item.name.as_str().unwrap_or("-");
            let (a, b) = (word(&item.a), word(&item.b));
            out::line(format_args!(
                "{} {name} {}: {a} | {b}",
                item.index, item.field
            ))?;
        }
        Ok(Status::Ok)
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn read(path: &Path) -> Result<(String, Rows), DiffError> {
    let bytes = std::fs::read(path).map_err(|source| DiffError::Read {
        path: path.into(),
        source,
    })?;
    let document: Value = serde_json::from_slice(&bytes).map_err(|source| DiffError::Json {
        path: path.into(),
        source,
    })?;
    let shape = || DiffError::Shape { path: path.into() };
    let schema = document
        .get("schema")
        .and_then(Value::as_str)
        .ok_or_else(shape)?;
    let items = document
        .get("items")
        .and_then(Value::as_array)
        .ok_or_else(shape)?;
    let mut rows = Rows::new();
    for item in items {
        let fields = item.as_object().ok_or_else(shape)?;
        let index = fields
            .get("index")
            .and_then(Value::as_str)
            .ok_or_else(shape)?;
        let index = crate::msr::policy::number(index).map_err(|_| shape())?;
        rows.insert(index, fields.clone());
    }
    Ok((schema.into(), rows))
}

fn compare(a: &Rows, b: &Rows) -> Vec<Item> {
    let mut indices: Vec<u64> = a.keys().chain(b.keys()).copied().collect();
    indices.sort_unstable();
    indices.dedup();
    let mut items = Vec::new();
    for index in indices {
        let (left, right) = (a.get(&index), b.get(&index));
        let name = left.or(right).and_then(|row| row.get("name")).cloned();
        let mut differs = |field: &str, a: Value, b: Value| {
            items.push(Item {
                index: format!("{index:#x}"),
                name: name.clone().unwrap_or_default(),
                field: field.into(),
                a,
                b,
            });
        };
        let (Some(left), Some(right)) = (left, right) else {
            let there =
                |row: Option<&Map<String, Value>>| if row.is_some() { "there" } else { "missing" };
            differs("row", there(left).into(), there(right).into());
            continue;
        };
        for (field, value) in left {
            let other = right.get(field).cloned().unwrap_or_default();
            if *value != other {
                differs(field, value.clone(), other);
            }
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(items: Value) -> Rows {
        let file = tempfile::NamedTempFile::new().unwrap();
        let document = json!({"schema": "trapline/msr-matrix/1", "items": items});
        std::fs::write(file.path(), document.to_string()).unwrap();
        read(file.path()).unwrap().1
    }

    #[test]
    fn only_what_differs_is_told() {
        let a = rows(json!([
            {"index": "0x10", "name": "TSC", "read": "moves"},
            {"index": "0x3a", "name": "F", "read": "0x5", "zero": "taken"},
            {"index": "0x40", "name": null},
        ]));
        let b = rows(json!([
            {"index": "0x10", "name": "TSC", "read": "moves"},
            {"index": "0x3a", "name": "F", "read": "#GP", "zero": "taken"},
        ]));
        let told: Vec<_> = compare(&a, &b)
            .iter()
            .map(|i| format!("{} {} {} {}", i.index, i.field, word(&i.a), word(&i.b)))
            .collect();
        assert_eq!(told, ["0x3a read 0x5 #GP", "0x40 row there missing"]);
    }

    #[test]
    fn what_is_no_matrix_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, expected) in [
            ("x", "is not what trapline msr matrix"),
            ("{}", "has no items"),
            (
                "{\"schema\":\"a\",\"items\":[{\"index\":5}]}",
                "has no items",
            ),
        ] {
            std::fs::write(file.path(), text).unwrap();
            let error = read(file.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
