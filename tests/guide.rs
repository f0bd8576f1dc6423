//! The guide is read with rustdoc and without: both must find all pages, and what they lead to.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What its links lead to where the pages are read as files: label and target.
fn links(text: &str) -> BTreeMap<&str, &str> {
    let definitions = text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: "));
    definitions.collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<(PathBuf, String)> {
    let files = fs::read_dir(root().join("docs/guide")).unwrap().map(|file| file.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn every_page_is_a_module_and_in_the_list_of_pages() {
    let modules = fs::read_to_string(root().join("src/guide.rs")).unwrap();
    let index = fs::read_to_string(root().join("docs/guide/README.md")).unwrap();
    let modules: BTreeSet<_> =
        modules.lines().filter_map(|line| line.strip_prefix("pub mod ")?.split(' ').next()).collect();
    let listed: BTreeSet<_> = links(&index).into_values().filter_map(|target| target.strip_suffix(".md")).collect();
    let pages = pages();
    let pages: BTreeSet<_> = pages
        .iter()
        .map(|(path, _)| path.file_stem().unwrap().to_str().unwrap())
        .filter(|name| *name != "README")
        .collect();
    assert!(pages.len() >= 10, "{pages:?}");
    assert_eq!(pages, modules);
    assert_eq!(pages, listed);
}

#[test]
fn every_link_leads_to_a_file_here_and_to_an_item_in_rustdoc() {
    let text = fs::read_to_string(root().join("src/guide/links.md")).unwrap();
    let in_rustdoc = links(&text);
    let mut used = BTreeSet::new();
    for (path, text) in pages() {
        for (label, target) in links(&text) {
            let file = path.parent().unwrap().join(target);
            assert!(file.exists(), "{}: [{label}] leads to {target}", path.display());
            assert!(in_rustdoc.contains_key(label), "{}: [{label}] is missing in src/guide/links.md", path.display());
            assert!(text.matches(&format!("[{label}]")).count() > 1, "{}: nobody uses [{label}]", path.display());
            used.insert(label.to_owned());
        }
        // Code has a right to brackets.
        let prose: String = text.split("```").step_by(2).collect();
        let inline = prose.contains("](");
        assert!(!inline, "{}: a link that is not defined at the end has one target only", path.display());
    }
    let unused: Vec<_> = in_rustdoc.keys().filter(|label| !used.contains(**label)).collect();
    assert!(unused.is_empty(), "no page has {unused:?}");
}

#[test]
fn the_picture_is_the_same_in_both() {
    let picture = fs::read_to_string(root().join("docs/guide/life.svg")).unwrap();
    let text = fs::read_to_string(root().join("src/guide/links.md")).unwrap();
    let in_rustdoc = links(&text)["life"];
    let encoded = [('%', "%25"), ('<', "%3C"), ('>', "%3E"), ('#', "%23"), ('\n', " ")]
        .iter()
        .fold(picture.trim().to_owned(), |text, (from, to)| text.replace(*from, to));
    assert!(
        in_rustdoc == format!("<data:image/svg+xml,{encoded}>"),
        "put this into src/guide/links.md:\n[life]: <data:image/svg+xml,{encoded}>"
    );
}
