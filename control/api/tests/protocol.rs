//! What services of different versions say to each other: what a version has said once keeps its number and meaning, and what
//! a later one adds is passed over by an earlier.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;

use control_api::{agent, control};
use prost::Message;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorProto, field_descriptor_proto::Label};

/// A line for each field, value and call that there ever was, but for what `reserved` says of numbers.
const RECORDED: &str = "tests/numbers.txt";

/// As `message.field = number type`.
fn lines(file: &FileDescriptorProto) -> Vec<String> {
    let mut lines = Vec::new();
    let package = file.package();
    for message in &file.message_type {
        of_message(&format!("{package}.{}", message.name()), message, &mut lines);
    }
    for kind in &file.enum_type {
        of_enum(&format!("{package}.{}", kind.name()), kind, &mut lines);
    }
    for service in &file.service {
        for call in &service.method {
            let streams = |streams: bool| if streams { "stream " } else { "" };
            lines.push(format!(
                "{package}.{}.{}({}{}) returns {}{}",
                service.name(),
                call.name(),
                streams(call.client_streaming()),
                call.input_type(),
                streams(call.server_streaming()),
                call.output_type(),
            ));
        }
    }
    lines
}

fn of_message(name: &str, message: &DescriptorProto, lines: &mut Vec<String>) {
    for field in &message.field {
        let label = if field.label() == Label::Repeated {
            "repeated "
        } else {
            ""
        };
        let kind = match field.type_name() {
            "" => field.r#type().as_str_name(),
            named => named,
        };
        lines.push(format!("{name}.{} = {} {label}{kind}", field.name(), field.number()));
    }
    for inner in &message.nested_type {
        of_message(&format!("{name}.{}", inner.name()), inner, lines);
    }
    for kind in &message.enum_type {
        of_enum(&format!("{name}.{}", kind.name()), kind, lines);
    }
}

fn of_enum(name: &str, kind: &EnumDescriptorProto, lines: &mut Vec<String>) {
    for value in &kind.value {
        lines.push(format!("{name}.{} = {}", value.name(), value.number()));
    }
}

#[test]
fn what_was_said_once_keeps_its_number_and_its_type() {
    let files = ["selkie/control.proto", "selkie/agent.proto"];
    let proto = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let descriptors = protox::compile(files, [proto]).unwrap();
    let now: BTreeSet<String> = descriptors.file.iter().flat_map(lines).collect();
    let recorded = std::fs::read_to_string(format!("{}/{RECORDED}", env!("CARGO_MANIFEST_DIR"))).unwrap_or_default();
    let recorded: BTreeSet<String> = recorded.lines().map(ToOwned::to_owned).collect();
    let broken: Vec<_> = recorded.difference(&now).collect();
    assert!(
        broken.is_empty(),
        "an earlier version says these, and would be misunderstood: {broken:#?}"
    );
    let new: Vec<_> = now.difference(&recorded).map(String::as_str).collect();
    assert!(new.is_empty(), "add to {RECORDED}:\n{}", new.join("\n"));
}

/// With a number and a text of a later version, by numbers that none has here.
fn is_understood<M: Message + Default + PartialEq>(said: M) {
    let mut bytes = said.encode_to_vec();
    // Field 4001, a varint; field 4002, four bytes.
    bytes.extend([0x88, 0xfa, 0x01, 0x07]);
    bytes.extend([0x92, 0xfa, 0x01, 0x04, b'm', b'o', b'r', b'e']);
    let understood = M::decode(&bytes[..]);
    assert!(understood.is_ok_and(|understood| understood == said));
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    let compute = control::Compute {
        incarnation: 7,
        // A state that is none here, either.
        state: 77,
        ..Default::default()
    };
    assert_eq!(compute.state(), control::ComputeState::Unspecified);
    let project = control::Project {
        id: "shop".into(),
        users: vec![control::User::default()],
        compute: Some(compute.clone()),
        ..Default::default()
    };
    let event = control::watch_event::Event::Project(project.clone());
    is_understood(compute);
    is_understood(project);
    is_understood(control::WatchEvent {
        version: 3,
        event: Some(event),
    });
    is_understood(control::WatchEvent::default());
    is_understood(control::WatchRequest::default());
    is_understood(control::Drained::default());
    is_understood(control::WakeRequest::default());
    is_understood(control::WakeReply::default());
    is_understood(control::ActivityReport::default());
    is_understood(control::UsageReport::default());
    is_understood(control::UsageWindow::default());
    is_understood(agent::AgentStatus {
        phase: 77,
        ..Default::default()
    });
    is_understood(agent::ApplyRequest::default());
    is_understood(agent::QuiesceRequest::default());
    is_understood(agent::QuiesceReply::default());
    is_understood(agent::SeenAccount::default());
}
