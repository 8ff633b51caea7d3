//! What may stand in an expression, and its tree in the form in which it is evaluated.
//!
//! Everything that is not listed here is refused, so that a release of the parser that knows more does
//! not open a door. Comprehensions and regular expressions are refused by name: their cost is not bounded
//! by the text.

use std::borrow::Cow;
use std::collections::BTreeSet;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, ListExpr, LiteralValue, SelectExpr, operators};
use crypto::names::Name;

use super::expression::{presence_variable, value_variable, variable};
use crate::limits::{CEL_DEPTH_MAX, CEL_NODES_MAX};

/// A tree without names that are not known.
pub struct Lowered {
    /// It.
    pub tree: IdedExpr,
    /// The attributes whose values it reads.
    pub attributes: BTreeSet<String>,
    /// Those whose presence it asks for.
    pub asked: BTreeSet<String>,
    /// It reads the clock.
    pub reads_now: bool,
}

/// What may not stand there.
pub struct Refusal {
    /// The node.
    pub node: u64,
    /// What was expected instead.
    pub expected: Cow<'static, str>,
}

/// Operators that stay as they are, and how many operands each has.
const OPERATORS: &[(&str, usize)] = &[
    (operators::CONDITIONAL, 3),
    (operators::LOGICAL_AND, 2),
    (operators::LOGICAL_OR, 2),
    (operators::LOGICAL_NOT, 1),
    (operators::EQUALS, 2),
    (operators::NOT_EQUALS, 2),
    (operators::LESS, 2),
    (operators::LESS_EQUALS, 2),
    (operators::GREATER, 2),
    (operators::GREATER_EQUALS, 2),
    (operators::ADD, 2),
    (operators::SUBSTRACT, 2),
    (operators::NEGATE, 1),
    (operators::IN, 2),
];

/// Methods of texts, each with one argument.
const METHODS: &[&str] = &["startsWith", "endsWith", "contains"];

const KNOWN: &str = "expected member.attributes.NAME, member.id, member.name, target or now";

/// Checks a tree and rewrites it.
///
/// # Errors
/// The first node that may not stand where it does.
pub fn lower(tree: &IdedExpr) -> Result<Lowered, Refusal> {
    let mut lowering = Lowering::default();
    let tree = lowering.node(tree, 0)?;
    Ok(Lowered {
        tree,
        attributes: lowering.attributes,
        asked: lowering.asked,
        reads_now: lowering.reads_now,
    })
}

#[derive(Default)]
struct Lowering {
    attributes: BTreeSet<String>,
    asked: BTreeSet<String>,
    reads_now: bool,
    nodes: usize,
}

impl Lowering {
    fn node(&mut self, node: &IdedExpr, depth: usize) -> Result<IdedExpr, Refusal> {
        let refuse = |expected: &'static str| {
            let expected = expected.into();
            Err(Refusal {
                node: node.id,
                expected,
            })
        };
        self.nodes += 1;
        if depth > CEL_DEPTH_MAX {
            return refuse("expected less nesting: the expression is too deep");
        }
        if self.nodes > CEL_NODES_MAX {
            return refuse("expected less: the expression has more than 512 parts");
        }
        let expr = match &node.expr {
            Expr::Literal(literal) => match literal {
                LiteralValue::Boolean(_) | LiteralValue::Int(_) | LiteralValue::String(_) => {
                    node.expr.clone()
                }
                LiteralValue::Bytes(_)
                | LiteralValue::Double(_)
                | LiteralValue::Null
                | LiteralValue::UInt(_) => {
                    return refuse("expected a text, a whole number, true or false");
                }
            },
            Expr::Ident(name) => self.ident(node.id, name)?,
            Expr::Select(select) => self.select(node.id, select)?,
            Expr::Call(call) => self.call(node.id, call, depth)?,
            Expr::List(list) => {
                if !list.optional_indices.is_empty() {
                    return refuse("expected a list without optional parts");
                }
                Expr::List(ListExpr::new(self.nodes(&list.elements, depth)?))
            }
            Expr::Comprehension(_) => {
                return refuse("comprehensions (all, exists, filter, map) are not allowed");
            }
            Expr::Map(_) | Expr::Struct(_) => return refuse("maps and objects are not allowed"),
            Expr::Unspecified => return refuse("expected an expression"),
        };
        Ok(IdedExpr { id: node.id, expr })
    }

    fn nodes(&mut self, nodes: &[IdedExpr], depth: usize) -> Result<Vec<IdedExpr>, Refusal> {
        let nodes = nodes.iter();
        nodes.map(|node| self.node(node, depth + 1)).collect()
    }

    fn ident(&mut self, node: u64, name: &str) -> Result<Expr, Refusal> {
        let known = match name {
            "target" => variable::TARGET,
            "now" => {
                self.reads_now = true;
                variable::NOW
            }
            "member" => return Err(refusal(node, KNOWN)),
            other => {
                let hint = "; an attribute with '-' is written member.attributes[\"a-b\"]";
                let other: String = other.chars().filter(|c| !c.is_control()).take(40).collect();
                return Err(refusal(node, format!("{KNOWN}: {other} is unknown{hint}")));
            }
        };
        Ok(Expr::Ident(known.to_owned()))
    }

    fn select(&mut self, node: u64, select: &SelectExpr) -> Result<Expr, Refusal> {
        if is_attributes(&select.operand) {
            return if select.test {
                self.presence(node, &select.field)
            } else {
                self.attribute(node, &select.field)
            };
        }
        if select.test {
            return Err(refusal(node, "expected has(member.attributes.NAME)"));
        }
        if is_ident(&select.operand, "member") {
            let known = match select.field.as_str() {
                "id" => variable::ID,
                "name" => variable::NAME,
                _ => return Err(refusal(node, KNOWN)),
            };
            return Ok(Expr::Ident(known.to_owned()));
        }
        if let Expr::Ident(name) = &select.operand.expr
            && name != "member"
        {
            self.ident(select.operand.id, name)?;
        }
        Err(refusal(node, KNOWN))
    }

    fn attribute(&mut self, node: u64, name: &str) -> Result<Expr, Refusal> {
        let name = attribute_name(node, name)?;
        let variable = value_variable(&name);
        self.attributes.insert(name);
        Ok(Expr::Ident(variable))
    }

    fn presence(&mut self, node: u64, name: &str) -> Result<Expr, Refusal> {
        let name = attribute_name(node, name)?;
        let variable = presence_variable(&name);
        self.asked.insert(name);
        Ok(Expr::Ident(variable))
    }

    fn call(&mut self, node: u64, call: &CallExpr, depth: usize) -> Result<Expr, Refusal> {
        let name = call.func_name.as_str();
        match (name, &call.target, call.args.as_slice()) {
            (operators::INDEX, None, [of, key]) if is_attributes(of) => match text(key) {
                Some(key) => self.attribute(node, key),
                None => Err(refusal(
                    node,
                    "expected the attribute's name in quotes: member.attributes[\"NAME\"]",
                )),
            },
            (operators::IN, None, [key, of]) if is_attributes(of) => match text(key) {
                Some(key) => self.presence(node, key),
                None => Err(refusal(
                    node,
                    "expected the attribute's name in quotes: \"NAME\" in member.attributes",
                )),
            },
            (operators::IN, None, [_, list]) if !matches!(list.expr, Expr::List(_)) => Err(
                refusal(node, "expected a list in brackets, or member.attributes"),
            ),
            (_, None, args) if OPERATORS.contains(&(name, args.len())) => {
                self.as_it_is(call, depth)
            }
            ("size", None, [_]) | ("size", Some(_), []) => self.as_it_is(call, depth),
            (_, Some(_), [_]) if METHODS.contains(&name) => self.as_it_is(call, depth),
            ("timestamp", None, [said]) => seconds_since_1970(node, text(said)),
            ("duration", None, [said]) => seconds(node, text(said)),
            (_, Some(target), []) if is_ident(target, "now") => {
                self.reads_now = true;
                let known = match name {
                    "getHours" => variable::HOURS,
                    "getMinutes" => variable::MINUTES,
                    "getDayOfWeek" => variable::WEEKDAY,
                    _ => {
                        return Err(refusal(
                            node,
                            "expected now.getHours(), now.getMinutes() or now.getDayOfWeek()",
                        ));
                    }
                };
                Ok(Expr::Ident(known.to_owned()))
            }
            ("matches", ..) => Err(refusal(node, "regular expressions are not allowed")),
            _ => Err(refusal(
                node,
                "this operator or function is not allowed: there are == != < <= > >= && || ! ?: + - in, \
                 has, size, startsWith, endsWith, contains, timestamp and duration",
            )),
        }
    }

    fn as_it_is(&mut self, call: &CallExpr, depth: usize) -> Result<Expr, Refusal> {
        let target = match &call.target {
            Some(target) => Some(Box::new(self.node(target, depth + 1)?)),
            None => None,
        };
        Ok(Expr::Call(CallExpr {
            func_name: call.func_name.clone(),
            target,
            args: self.nodes(&call.args, depth)?,
        }))
    }
}

fn refusal(node: u64, expected: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal {
        node,
        expected: expected.into(),
    }
}

fn is_ident(node: &IdedExpr, wanted: &str) -> bool {
    matches!(&node.expr, Expr::Ident(name) if name == wanted)
}

fn is_attributes(node: &IdedExpr) -> bool {
    matches!(&node.expr, Expr::Select(select)
        if !select.test && select.field == "attributes" && is_ident(&select.operand, "member"))
}

fn text(node: &IdedExpr) -> Option<&str> {
    if let Expr::Literal(LiteralValue::String(text)) = &node.expr {
        Some(text.inner())
    } else {
        None
    }
}

fn attribute_name(node: u64, name: &str) -> Result<String, Refusal> {
    match name.parse::<Name>() {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err(refusal(
            node,
            "expected an attribute's name: letters, digits, '.', '_' and '-'",
        )),
    }
}

fn int(value: i64) -> Expr {
    Expr::Literal(LiteralValue::Int(value.into()))
}

/// `timestamp("2026-12-31T23:59:59Z")`, a number of seconds like `now`.
fn seconds_since_1970(node: u64, said: Option<&str>) -> Result<Expr, Refusal> {
    let time = said.and_then(|said| said.parse::<jiff::Timestamp>().ok());
    match time {
        Some(time) => Ok(int(time.as_second())),
        None => Err(refusal(
            node,
            "expected a time in quotes, such as timestamp(\"2026-12-31T23:59:59Z\")",
        )),
    }
}

/// `duration("8h30m")`, a number of seconds.
fn seconds(node: u64, said: Option<&str>) -> Result<Expr, Refusal> {
    let sum = said.filter(|said| !said.is_empty()).and_then(|said| {
        let mut rest = said;
        let mut sum: i64 = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: i64 = rest[..digits].parse().ok()?;
            let unit = match rest.as_bytes().get(digits)? {
                b'h' => 3600,
                b'm' => 60,
                b's' => 1,
                _ => return None,
            };
            sum = sum.checked_add(number.checked_mul(unit)?)?;
            rest = &rest[digits + 1..];
        }
        Some(sum)
    });
    match sum {
        Some(sum) => Ok(int(sum)),
        None => Err(refusal(
            node,
            "expected a duration in quotes, such as duration(\"8h30m\")",
        )),
    }
}
