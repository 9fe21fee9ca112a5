//! temp
use fanfold_shared::ids::ProcessNumber;
use std::ffi::OsString;
/// t
pub struct ChildEnv;
impl ChildEnv {
    /// t
    pub fn variables(&self, _d: Option<&str>) -> Vec<(OsString, OsString)> {
        std::env::vars_os().collect()
    }
}
/// t
pub struct Devices;
impl Devices {
    /// t
    pub fn names(&self) -> Vec<String> {
        vec![]
    }
    /// t
    pub fn assign(&mut self, _p: ProcessNumber) -> Option<String> {
        None
    }
    /// t
    pub fn release(&mut self, _p: ProcessNumber) {}
}
