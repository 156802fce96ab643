//! The component needs what wit/component/world.wit says, and nothing else.

use std::fs;
use std::process::Command;

use crate::host::{root, tool};

/// The interfaces after `keyword` in a WIT text's first world.
fn interfaces(wit: &str, keyword: &str) -> Vec<String> {
    let world = wit.split("world ").nth(1).and_then(|text| text.split("\n}").next()).unwrap();
    let lines = world.lines().filter_map(|line| line.trim().strip_prefix(keyword));
    lines.map(|line| line.trim().trim_end_matches(';').to_owned()).collect()
}

#[test]
fn the_component_needs_what_its_world_says() {
    let component = root().join("target/wasm32-wasip2/release/afterack.wasm");
    let output = Command::new(tool("wasm-tools")).args(["component", "wit"]).arg(component).output().unwrap();
    let (built, world) = (
        String::from_utf8(output.stdout).unwrap(),
        fs::read_to_string(root().join("wit/component/world.wit")).unwrap(),
    );
    assert_eq!(interfaces(&built, "export"), interfaces(&world, "export"));
    let told = interfaces(&world, "import");
    for import in interfaces(&built, "import") {
        assert!(told.contains(&import), "wit/component/world.wit does not say that {import} is needed");
    }
}
