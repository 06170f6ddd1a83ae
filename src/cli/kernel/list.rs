//! `trapline kernel list [--json]`

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Failure, Status};
use crate::boot::{Image, Kind};
use crate::cli::out;
use crate::kernels::{Cache, Kernel, Options};

/// List the kernels got and built, the newest first
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Item {
    #[serde(flatten)]
    kernel: Kernel,
    /// Over all the files it has: the image, and the ELF beside it.
    protocols: Vec<&'static str>,
    options: BTreeMap<&'static str, String>,
}

impl List {
    pub(super) fn run(&self, cache: &Cache) -> Result<Status, Failure> {
        let kernels = cache.list().map_err(Failure::internal)?;
        let items = kernels
            .into_iter()
            .map(Item::new)
            .collect::<Result<Vec<_>, _>>()?;
        if self.json {
            out::json("kernel-list", &items)?;
        } else if items.is_empty() {
            out::say(format_args!(
                "no kernel in {}; get one with\n  trapline kernel get debian-cloud",
                cache.kernels().display()
            ));
        } else {
            out::print(table(&items))?;
        }
        Ok(Status::Ok)
    }
}

impl Item {
    fn new(kernel: Kernel) -> Result<Self, Failure> {
        let options = match &kernel.config {
            Some(config) => Options::read(config).map_err(Failure::internal)?,
            None => Options::default(),
        };
        Ok(Self {
            protocols: protocols(&kernel),
            options: options.notable(),
            kernel,
        })
    }

    fn row(&self) -> [String; 4] {
        let word = |(name, value): (&&str, &String)| match value.as_str() {
            "y" => (*name).to_owned(),
            other => format!("{name}={other}"),
        };
        [
            self.kernel.name.clone(),
            self.kernel.version.clone().unwrap_or_default(),
            self.protocols.join(","),
            self.options.iter().map(word).collect::<Vec<_>>().join(" "),
        ]
    }
}

fn protocols(kernel: &Kernel) -> Vec<&'static str> {
    let files = std::iter::once(&kernel.image).chain(&kernel.vmlinux);
    let images: Vec<Image> = files.filter_map(|file| Image::open(file).ok()).collect();
    let any = |of: fn(&Image) -> bool| images.iter().any(of);
    let can = [
        ("bzImage", any(|image| image.kind() == Kind::BzImage)),
        ("ELF", any(|image| image.kind() == Kind::Elf)),
        ("PVH", any(|image| image.protocols().pvh)),
    ];
    can.into_iter()
        .filter(|(_, can)| *can)
        .map(|(name, _)| name)
        .collect()
}

fn table(items: &[Item]) -> String {
    let mut rows = vec![["NAME", "VERSION", "STARTS AS", "OPTIONS"].map(str::to_owned)];
    rows.extend(items.iter().map(Item::row));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let (name, version, starts) = (width(0), width(1), width(2));
    let line = |[n, v, s, o]: &[String; 4]| {
        format!("{n:name$}  {v:version$}  {s:starts$}  {o}")
            .trim_end()
            .to_owned()
            + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_one_line_under_its_headings() {
        let mut kernel = Kernel::from_path(std::path::Path::new("/dev/null")).unwrap();
        kernel.name = "debian-6.1".into();
        let item = Item {
            kernel,
            protocols: vec!["bzImage", "PVH"],
            options: [("PVH", "y".into()), ("KVM_AMD", "m".into())].into(),
        };
        let json = serde_json::to_value(&item).unwrap();
        assert_eq!(json["image"], "/dev/null");
        assert_eq!(
            table(&[item]),
            "NAME        VERSION  STARTS AS    OPTIONS\n\
             debian-6.1           bzImage,PVH  KVM_AMD=m PVH\n"
        );
    }
}
