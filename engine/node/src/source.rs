//! Where the settings of this process come from: a file, the environment over it, flags over both; or without a file.

use std::path::PathBuf;
use std::time::Duration;

use crate::args::RunArguments;
use crate::config::{self, ConfigErrors, Mode, Settings, Value};

/// Objects of a stand-alone engine lie under this prefix of `--tier2-directory`.
pub(crate) const STAND_ALONE_PREFIX: &str = "aof2/";

/// Can be loaded again and again; the file is read each time.
#[derive(Clone, Debug)]
pub struct Source {
    pub file: Option<PathBuf>,
    /// Interval between checks of the configuration file
    pub period: Duration,
    mode: Mode,
    environment: Vec<(String, String)>,
    flags: Vec<(&'static str, Value)>,
    tier2_directory: Option<PathBuf>,
}

impl Source {
    pub fn new(arguments: RunArguments) -> Self {
        let RunArguments {
            config,
            config_poll,
            data_dir,
            data_socket,
            admin_socket,
            admin_address,
            http_address,
            tls_directory,
            tls_client_name,
            tier2_directory,
            cluster_id,
            node_name,
        } = arguments;
        let mode = if data_dir.is_some() {
            Mode::StandAlone
        } else {
            Mode::Pod
        };
        // Paths are made absolute here, so that the settings never depend on the folder that the process was started in.
        let path = |path: PathBuf| {
            std::path::absolute(&path)
                .unwrap_or(path)
                .to_string_lossy()
                .into_owned()
        };
        let flags = [
            ("storage.directory", data_dir.map(path)),
            ("listen.data_socket", data_socket.map(path)),
            ("listen.admin_socket", admin_socket.map(path)),
            (
                "listen.admin_address",
                admin_address.map(|address| address.to_string()),
            ),
            (
                "listen.http_address",
                http_address.map(|address| address.to_string()),
            ),
            ("tls.directory", tls_directory.map(path)),
            ("tls.client_name", tls_client_name),
            ("cluster.id", cluster_id),
            ("node.name", node_name),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| (key, Value::Text(value))))
            .collect();
        Source {
            file: config,
            period: config_poll,
            mode,
            environment: std::env::vars().collect(),
            flags,
            tier2_directory,
        }
    }

    /// The file as it is now; `None` where the settings come from flags alone.
    pub fn read(&self) -> Option<std::io::Result<String>> {
        let read = |file: &PathBuf| {
            let bytes = std::fs::read(file)?;
            String::from_utf8(bytes)
                .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
        };
        self.file.as_ref().map(read)
    }

    /// Of which revision a file is that is perhaps not valid; see [`config::revision_of`].
    pub fn revision_of(&self, text: &str) -> Option<String> {
        config::revision_of(text, self.mode)
    }

    /// Settings out of what [`Source::read`] brought.
    pub fn parse(&self, text: Option<std::io::Result<String>>) -> Result<Settings, ConfigErrors> {
        let name = self
            .file
            .as_ref()
            .map(|file| file.display().to_string())
            .unwrap_or_default();
        let settings = match text {
            None => Settings::stand_alone(),
            Some(Ok(text)) => config::parse(&name, &text, self.mode)?,
            Some(Err(error)) => return Err(ConfigErrors::unreadable(&name, &error)),
        };
        let settings = settings.with(&config::environment::overrides(&self.environment)?)?;
        let mut settings = settings.with(&self.flags)?;
        if let Some(directory) = &self.tier2_directory {
            settings.use_tier2_directory(directory, STAND_ALONE_PREFIX);
        }
        Ok(settings)
    }
}
