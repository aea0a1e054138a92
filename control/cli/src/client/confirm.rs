//! What cannot be brought back is asked for twice: a person types its name again, a script says `--yes`.

use std::io::{BufRead, IsTerminal, Write};

use crate::arguments::Sure;
use crate::failure::Failure;

/// Goes on where somebody is sure. `goes` says what is lost.
pub(super) fn sure(sure: Sure, what: &str, name: &str, goes: &str) -> Result<(), Failure> {
    if sure.yes {
        return Ok(());
    }
    // The question goes to standard error, since standard output may be read by a program.
    let (input, output) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() || !output.is_terminal() {
        return Err(Failure::new(format!(
            "{what} {name} is not deleted, since {goes}: --yes says that it is meant"
        )));
    }
    asked(&mut input.lock(), &mut output.lock(), what, name, goes)
}

fn asked(input: &mut impl BufRead, output: &mut impl Write, what: &str, name: &str, goes: &str) -> Result<(), Failure> {
    write!(output, "Deleting {what} {name}: {goes}. Type its name to go on: ")?;
    output.flush()?;
    let mut typed = String::new();
    input.read_line(&mut typed)?;
    match typed.trim() {
        typed if typed == name => Ok(()),
        "" => Err(Failure::new(format!("{what} {name} stays"))),
        typed => Err(Failure::new(format!("{what} {name} stays: {typed:?} is not its name"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_name_typed_again_goes_on() {
        let ask = |typed: &str| {
            let mut said = Vec::new();
            let answer = asked(
                &mut typed.as_bytes(),
                &mut said,
                "project",
                "shop",
                "all of its data goes",
            );
            let said = String::from_utf8(said).unwrap();
            assert_eq!(
                said,
                "Deleting project shop: all of its data goes. Type its name to go on: "
            );
            answer.map_err(|failure| failure.text().to_owned())
        };
        assert_eq!(ask("shop\n"), Ok(()));
        assert_eq!(ask(" shop \r\n"), Ok(()));
        assert_eq!(ask("yes\n"), Err("project shop stays: \"yes\" is not its name".into()));
        for nothing in ["\n", ""] {
            assert_eq!(ask(nothing), Err("project shop stays".into()));
        }
    }
}
