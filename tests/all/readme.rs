//! What README shows is what there is.

use std::fs;

use crate::host::root;

#[test]
fn readme_shows_the_example_as_it_is() {
    let read = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let example = read("examples/email.rs");
    assert!(read("README.md").contains(&example), "README.md does not show examples/email.rs as it is");
    assert!(example.lines().count() <= 30, "the story has more than 30 lines");
}
