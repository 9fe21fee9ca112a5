//! temp
use fanfold_shared::ids::ProcessNumber;
use fanfold_shared::job::SurplusProcesses;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
/// t
pub struct ChildEnv {
    /// t
    pub devices: Vec<String>,
    /// t
    pub output_dir: PathBuf,
    /// t
    pub model_dir: Option<PathBuf>,
    /// t
    pub variables: BTreeMap<String, String>,
}
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
    pub fn open(
        _g: Option<&[String]>,
        _i: Option<&str>,
        _s: SurplusProcesses,
        _j: &str,
    ) -> Result<Devices, fanfold_shared::report::Failure> {
        Ok(Devices)
    }
    /// t
    pub fn warning(&self, _p: u32) -> Option<String> {
        None
    }
    /// t
    pub fn locks(&self) -> Vec<std::os::fd::BorrowedFd<'_>> {
        vec![]
    }
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
/// t
pub fn discover(_g: Option<&[String]>, _i: Option<&str>) -> Result<Vec<String>, fanfold_shared::report::Failure> {
    Ok(vec![])
}
