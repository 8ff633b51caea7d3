//! Reads policies where there is enough stack for it.
//!
//! An expression's parser goes down as deep as its grammar, which overflows the stack of an ordinary
//! thread on texts that are allowed. So rules that hold one are read on a thread made for it.

use crate::limits::CEL_STACK;
use crate::protocol::policy::{Policy, PolicyError, RuleSpec};

/// Reads rules.
///
/// # Errors
/// Those of [`Policy::read`]; also that the thread can't be started.
pub fn read(specs: &[RuleSpec]) -> Result<Policy, PolicyError> {
    if !specs.iter().any(RuleSpec::is_expression) {
        return Policy::read(specs);
    }
    let failed = |why: &str| PolicyError {
        rule: String::new(),
        at: 1,
        expected: format!("the expressions can't be read: {why}").into(),
        nth: 0,
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("adit-policy".into())
            .stack_size(CEL_STACK)
            .spawn_scoped(scope, || Policy::read(specs))
            .map_err(|error| failed(&error.to_string()))?;
        let read = thread.join();
        read.unwrap_or_else(|_| Err(failed("the parser failed, which is a bug of adit")))
    })
}
