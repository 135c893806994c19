//! Built-in users.
use wire::{Seed, Time};
use crate::event::OpId;
use crate::node::Node;
use crate::report::CallReport;
pub(crate) const ECHO: u32 = 0;
pub(crate) const INBOX: u32 = 1;
pub(crate) struct Locals {}
impl Locals {
    pub(crate) fn new(_seed: Seed, _now: Time) -> Self { Locals {} }
    pub(crate) fn poll_timeout(&self) -> Option<Time> { None }
    pub(crate) fn handle_timeout(&mut self, _now: Time) {}
    pub(crate) fn handle_message(&mut self, _now: Time, _id: u32, _bytes: &[u8]) {}
    pub(crate) fn op_of(&self, _id: u32) -> Option<OpId> { None }
    pub(crate) fn ports_requested(&mut self, _wanted: usize) -> bool { false }
}
impl Node {
    pub(crate) fn drain_locals(&mut self, _now: Time) -> bool { false }
    pub(crate) fn limit_call(&mut self, _now: Time, _call: sip::CallId) {}
    pub(crate) fn finish_call_op(&mut self, _now: Time, _op: OpId, _r: CallReport) {}
    pub(crate) fn hang_up_op(&mut self, _now: Time, _op: OpId) {}
    pub(crate) fn end_all_calls(&mut self, _now: Time, _why: &str) {}
}
