//! The environment of a Python process: what the worker inherited, less what is the worker's own, plus what the job and the
//! node decide.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::pool::Binding;

/// What a node decides about the environment of one process.
#[derive(Clone, Debug)]
pub struct ChildEnv<'a> {
    /// What the pool dealt to it.
    pub binding: &'a Binding,
    /// The devices that the node found, those that others hold included.
    pub gpu_count: usize,
    /// The job's output directory.
    pub output_dir: &'a Path,
    /// The folder that contains the model's own, if the job has models.
    pub model_dir: Option<&'a Path>,
    /// The job's `environment_variables`.
    pub environment_variables: &'a BTreeMap<String, String>,
}

/// The whole environment of one process, for `env_clear` and `envs`. `own` is the worker's environment.
///
/// The job's `environment_variables` go over what was inherited, and what the node decides over both. The mark of the process is
/// added by `Guard::spawn`.
pub fn child_env(
    own: impl IntoIterator<Item = (OsString, OsString)>,
    child: &ChildEnv<'_>,
) -> Vec<(OsString, OsString)> {
    let mut env: BTreeMap<OsString, OsString> = without_secrets(own).into_iter().collect();
    env.extend(child.environment_variables.iter().map(|(name, value)| (name.into(), value.into())));
    let mut set = |name: &str, value: &OsStr| env.insert(name.into(), value.to_os_string());
    set("AZUREML_BI_OUTPUT_PATH", child.output_dir.as_os_str());
    set("AZ_BATCHAI_GPU_COUNT_FOUND", OsStr::new(&child.gpu_count.to_string()));
    if let Some(model_dir) = child.model_dir {
        set("AZUREML_MODEL_DIR", model_dir.as_os_str());
    }
    match child.binding {
        Binding::Device(device) => {
            set("CUDA_VISIBLE_DEVICES", OsStr::new(&device.visible));
            if device.visible.bytes().all(|byte| byte.is_ascii_digit()) {
                // The index is NVML's; CUDA's own order may put another device there.
                set("CUDA_DEVICE_ORDER", OsStr::new("PCI_BUS_ID"));
            }
        }
        Binding::Hidden => {
            set("CUDA_VISIBLE_DEVICES", OsStr::new(""));
        }
        Binding::Unset => {
            env.remove(OsStr::new("CUDA_VISIBLE_DEVICES"));
        }
        Binding::Inherited => {}
    }
    env.into_iter().collect()
}

/// What of the worker's environment a user's code may see: everything but the worker's own settings and the addresses and
/// credentials of broker and Redis, under whatever name they came.
pub fn without_secrets(own: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    own.into_iter().filter(|(name, value)| !is_ours(name) && !is_address(value)).collect()
}

fn is_ours(name: &OsStr) -> bool {
    const PREFIXES: [&[u8]; 4] = [b"FANFOLD_", b"RABBITMQ_", b"AMQP_", b"REDIS_"];
    let name = name.as_bytes().to_ascii_uppercase();
    PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || name == b"REDISCLI_AUTH"
}

fn is_address(value: &OsStr) -> bool {
    const SCHEMES: [&[u8]; 4] = [b"amqp://", b"amqps://", b"redis://", b"rediss://"];
    let value = value.as_bytes().to_ascii_lowercase();
    SCHEMES.iter().any(|scheme| value.windows(scheme.len()).any(|window| window == *scheme))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::Device;

    fn pairs(list: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        list.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn env(own: &[(&str, &str)], job: &[(&str, &str)], binding: Binding) -> BTreeMap<String, String> {
        let variables = job.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let child = ChildEnv {
            binding: &binding,
            gpu_count: 2,
            output_dir: Path::new("/job/output"),
            model_dir: None,
            environment_variables: &variables,
        };
        let text = |text: OsString| text.into_string().unwrap();
        child_env(pairs(own), &child).into_iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn device(visible: &str) -> Binding {
        Binding::Device(Device { visible: visible.into(), uuid: None, name: None })
    }

    #[test]
    fn a_process_gets_its_device_and_the_order_it_is_counted_in() {
        let bound = env(&[("CUDA_VISIBLE_DEVICES", "0,1"), ("CUDA_DEVICE_ORDER", "FASTEST_FIRST")], &[], device("1"));
        assert_eq!(bound["CUDA_VISIBLE_DEVICES"], "1");
        assert_eq!(bound["CUDA_DEVICE_ORDER"], "PCI_BUS_ID");
        assert_eq!(bound["AZ_BATCHAI_GPU_COUNT_FOUND"], "2");
        assert_eq!(bound["AZUREML_BI_OUTPUT_PATH"], "/job/output");
        let by_uuid = env(&[], &[], device("MIG-c1"));
        assert_eq!(by_uuid["CUDA_VISIBLE_DEVICES"], "MIG-c1");
        assert!(!by_uuid.contains_key("CUDA_DEVICE_ORDER"));
    }

    #[test]
    fn surplus_processes_get_no_variable_or_an_empty_one() {
        let own = [("CUDA_VISIBLE_DEVICES", "0,1")];
        assert!(!env(&own, &[("CUDA_VISIBLE_DEVICES", "1")], Binding::Unset).contains_key("CUDA_VISIBLE_DEVICES"));
        assert_eq!(env(&own, &[], Binding::Hidden)["CUDA_VISIBLE_DEVICES"], "");
        assert_eq!(env(&own, &[], Binding::Inherited)["CUDA_VISIBLE_DEVICES"], "0,1");
    }

    #[test]
    fn the_jobs_variables_go_over_the_workers_and_under_the_nodes() {
        let job = [("LANG", "C"), ("AZUREML_BI_OUTPUT_PATH", "/elsewhere"), ("CUDA_VISIBLE_DEVICES", "7")];
        let env = env(&[("LANG", "de_DE.UTF-8"), ("HOME", "/root")], &job, device("0"));
        assert_eq!((env["LANG"].as_str(), env["HOME"].as_str()), ("C", "/root"));
        assert_eq!(env["AZUREML_BI_OUTPUT_PATH"], "/job/output");
        assert_eq!(env["CUDA_VISIBLE_DEVICES"], "0");
    }

    #[test]
    fn nothing_secret_of_the_workers_own_gets_through() {
        let own = [
            ("FANFOLD_BROKER", "amqp://u:canary@broker"),
            ("FANFOLD_TOKEN", "canary"),
            ("FANFOLD_PROCESS", "a/b/0/canary"),
            ("MESSAGING_URL", "amqps://u:canary@broker/vhost"),
            ("CACHE", "cluster,REDISS://:canary@redis:6379"),
            ("RABBITMQ_DEFAULT_PASS", "canary"),
            ("redis_password", "canary"),
            ("REDISCLI_AUTH", "canary"),
            ("AWS_PROFILE", "mine"),
        ];
        let env = env(&own, &[("REDIS_URL", "redis://my-own-cache")], Binding::Inherited);
        assert!(!format!("{env:?}").contains("canary"), "{env:?}");
        assert_eq!(env["AWS_PROFILE"], "mine");
        assert_eq!(env["REDIS_URL"], "redis://my-own-cache", "what the job itself gives is the job's");
    }

    #[test]
    fn names_that_are_not_text_pass_unchanged() {
        let odd = OsStr::from_bytes(b"caf\xe9").to_os_string();
        let kept = without_secrets([(odd.clone(), odd.clone())]);
        assert_eq!(kept, [(odd.clone(), odd)]);
    }
}
