//! Agent frameworks in front of the gateway, and what each tells its model after a call.

use std::process::Command;

use anyhow::Context as _;

use crate::cache;
use crate::process::run;

/// An agent framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framework {
    /// OpenAI Agents for Python.
    OpenAiAgents,
    /// LangChain for Python, with its MCP adapters.
    LangChain,
    /// Pydantic AI.
    PydanticAi,
    /// Google ADK for Python.
    GoogleAdk,
    /// Vercel's AI SDK.
    AiSdk,
    /// Mastra.
    Mastra,
}

impl Framework {
    /// All frameworks.
    pub const ALL: [Self; 6] =
        [Self::OpenAiAgents, Self::LangChain, Self::PydanticAi, Self::GoogleAdk, Self::AiSdk, Self::Mastra];

    /// The name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAiAgents => "OpenAI Agents",
            Self::LangChain => "LangChain",
            Self::PydanticAi => "Pydantic AI",
            Self::GoogleAdk => "Google ADK",
            Self::AiSdk => "AI SDK",
            Self::Mastra => "Mastra",
        }
    }

    /// Its name in `pins-frameworks.txt` and for the clients.
    fn package(self) -> &'static str {
        match self {
            Self::OpenAiAgents => "openai-agents",
            Self::LangChain => "langchain",
            Self::PydanticAi => "pydantic-ai",
            Self::GoogleAdk => "google-adk",
            Self::AiSdk => "ai-sdk",
            Self::Mastra => "mastra",
        }
    }

    /// Runs an agent for each list of calls in `operations`, a JSON list of lists. Returns what its model was told
    /// after the last call of each.
    ///
    /// # Errors
    /// When the framework cannot be run.
    pub fn run_agents(self, url: &str, operations: &str) -> anyhow::Result<Vec<String>> {
        let mut command = match self {
            Self::OpenAiAgents | Self::LangChain | Self::PydanticAi | Self::GoogleAdk => {
                let mut command = Command::new(cache::python(self.package())?);
                command.arg(cache::project_file("clients/framework_python.py"));
                command
            }
            Self::AiSdk | Self::Mastra => {
                let mut command = Command::new(cache::node()?);
                command.arg(cache::project_file("clients/framework_typescript.mjs"));
                command.arg(cache::installed("npm", self.package())?);
                command
            }
        };
        command.args([self.package(), operations, url]);
        let printed = run(&mut command).with_context(|| self.name())?;
        serde_json::from_str(&printed).with_context(|| format!("{} printed {printed}", self.name()))
    }
}
