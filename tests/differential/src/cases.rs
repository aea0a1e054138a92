//! Cases that failed once, and cases written by hand: `cases/*.jsonl`, named for what they show.

use std::path::Path;

use crate::lane::Lane;
use crate::play::play;
use crate::step::Case;

#[tokio::test]
async fn kept_cases_see_no_difference() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let lane = Lane::open().await;
    let mut files: Vec<_> = std::fs::read_dir(&dir)
        .expect("the cases")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"))
        .collect();
    files.sort();
    let mut failed = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        let case = Case::from_lines(&text).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        if let Err(how) = play(&lane, &case).await {
            failed.push(format!("{}: {how}", file.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
