//! `docs/first-outage.md` shows what the storm prints, and nothing else.

use std::{path::Path, process::Command, sync::OnceLock};

/// What the storm's simulated outage prints: sections that begin with `== name`.
fn samples() -> &'static [(String, Vec<String>)] {
    static SAMPLES: OnceLock<Vec<(String, Vec<String>)>> = OnceLock::new();
    SAMPLES.get_or_init(print_samples)
}

fn print_samples() -> Vec<(String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--example", "storm", "--", "--outage"])
        .current_dir(root)
        .output()
        .expect("the cargo that runs this test can be run");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let mut sections: Vec<(String, Vec<String>)> = Vec::new();
    for line in String::from_utf8(run.stdout).unwrap().lines() {
        match (line.strip_prefix("== "), sections.last_mut()) {
            (Some(name), _) => sections.push((name.into(), Vec::new())),
            (None, Some((_, lines))) => lines.push(line.into()),
            (None, None) => panic!("a line before the first section: {line}"),
        }
    }
    sections
}

/// The blocks of the page after `<!-- storm: section | filter | at most -->`: the comment and the lines.
fn blocks(page: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    for part in page.split("<!-- storm: ").skip(1) {
        let (what, rest) = part.split_once(" -->\n```text\n").expect("a comment is followed by a text block");
        let (block, _) = rest.split_once("```").expect("a block ends");
        blocks.push((what.to_owned(), block.to_owned()));
    }
    blocks
}

/// What a block must show.
fn wanted(samples: &[(String, Vec<String>)], what: &str) -> String {
    let mut words = what.split(" | ");
    let section = words.next().unwrap_or_default();
    let (_, lines) =
        samples.iter().find(|(name, _)| name == section).unwrap_or_else(|| panic!("no {section}"));
    let filter = words.next().unwrap_or_default();
    let most = words.next().map_or(usize::MAX, |n| n.parse().unwrap());
    let lines: Vec<&str> =
        lines.iter().map(String::as_str).filter(|l| l.contains(filter)).take(most).collect();
    format!("{}\n", lines.join("\n").trim())
}

#[test]
fn every_sample_of_the_first_outage_page_is_what_the_storm_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/first-outage.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let samples = samples();
    let blocks = blocks(&page);
    assert!(blocks.len() >= 8, "only {} samples", blocks.len());

    // To take over what the storm prints now: BUTTRESS_UPDATE=1 cargo test first_outage
    if std::env::var_os("BUTTRESS_UPDATE").is_some() {
        let renewed = blocks.iter().fold(page, |page, (what, block)| {
            let head = format!("<!-- storm: {what} -->\n```text\n");
            page.replace(&format!("{head}{block}```"), &format!("{head}{}```", wanted(samples, what)))
        });
        std::fs::write(&path, renewed).unwrap();
        return;
    }
    for (what, block) in blocks {
        assert_eq!(
            block,
            wanted(samples, &what),
            "the sample `{what}` of docs/first-outage.md is out of date"
        );
    }
}

#[test]
fn page_names_every_answer_that_the_outage_gives() {
    let page = include_str!("../../docs/first-outage.md");
    for (name, _) in samples() {
        if let Some(code) = name.strip_prefix("answer ").filter(|code| !code.contains(' ')) {
            assert!(page.contains(&format!("`{code}`")), "the page says nothing of {code}");
        }
    }
}
