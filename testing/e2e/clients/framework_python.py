"""Agent frameworks for Python in front of a gateway. A scripted model asks for tool calls, and the script prints what
the framework tells the model after the last one. Arguments: the framework, the calls as JSON, the URL of the gateway."""

import asyncio
import json
import sys
import warnings

LIMIT_SECONDS = 60
"""The longest run of a framework. A framework that does not end is a finding too."""


def text_of(value: object) -> str:
    """The text that a model reads: a string as it is, the texts of content blocks, anything else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(block, dict) and "text" in block for block in value):
        return "\n".join(block["text"] for block in value)
    return json.dumps(value, default=repr)


async def openai_agents(url: str, calls: list[dict]) -> str:
    from agents import Agent, ModelResponse, Runner, Usage, set_tracing_disabled
    from agents.mcp import MCPServerStreamableHttp
    from agents.models.interface import Model
    from openai.types.responses import (
        ResponseFunctionToolCall,
        ResponseOutputMessage,
        ResponseOutputText,
    )

    set_tracing_disabled(True)
    told: list[str] = []

    class Scripted(Model):
        async def get_response(self, system_instructions, input, *_, **__):  # noqa: A002: the name of the interface
            outputs = [] if isinstance(input, str) else [item for item in input if item.get("type") == "function_call_output"]
            told[:] = [text_of(item["output"]) for item in outputs]
            if len(outputs) < len(calls):
                call = calls[len(outputs)]
                output = ResponseFunctionToolCall(
                    type="function_call", call_id=f"c{len(outputs)}", name=call["tool"], arguments=json.dumps(call["arguments"])
                )
            else:
                done = ResponseOutputText(type="output_text", text="done", annotations=[])
                output = ResponseOutputMessage(id="m", type="message", role="assistant", status="completed", content=[done])
            return ModelResponse(output=[output], usage=Usage(), response_id=None)

        def stream_response(self, *_, **__):
            raise NotImplementedError

    async with MCPServerStreamableHttp(params={"url": url}, client_session_timeout_seconds=30) as server:
        await Runner.run(Agent(name="agent", model=Scripted(), mcp_servers=[server]), "go")
    return told[-1]


async def langchain(url: str, calls: list[dict]) -> str:
    from langchain.agents import create_agent
    from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage
    from langchain_mcp_adapters.client import MultiServerMCPClient

    class Scripted(GenericFakeChatModel):
        def bind_tools(self, *_, **__):
            return self

    answers = [
        AIMessage(content="", tool_calls=[{"name": call["tool"], "args": call["arguments"], "id": f"c{index}"}])
        for index, call in enumerate(calls)
    ]
    client = MultiServerMCPClient({"gateway": {"transport": "streamable_http", "url": url}})
    agent = create_agent(Scripted(messages=iter([*answers, AIMessage(content="done")])), await client.get_tools())
    result = await agent.ainvoke({"messages": [{"role": "user", "content": "go"}]})
    return text_of([message for message in result["messages"] if message.type == "tool"][-1].content)


async def pydantic_ai(url: str, calls: list[dict]) -> str:
    from pydantic_ai import Agent
    from pydantic_ai.mcp import MCPToolset
    from pydantic_ai.messages import ModelResponse, RetryPromptPart, TextPart, ToolCallPart, ToolReturnPart
    from pydantic_ai.models.function import FunctionModel

    told: list[str] = []

    def scripted(messages, _):
        parts = [part for message in messages for part in message.parts]
        answers = [part for part in parts if isinstance(part, ToolReturnPart | RetryPromptPart)]
        told[:] = [
            part.model_response() if isinstance(part, RetryPromptPart) else part.model_response_str() for part in answers
        ]
        if len(answers) < len(calls):
            call = calls[len(answers)]
            return ModelResponse(parts=[ToolCallPart(call["tool"], call["arguments"])])
        return ModelResponse(parts=[TextPart("done")])

    agent = Agent(FunctionModel(scripted), toolsets=[MCPToolset(url)])
    async with agent:
        await agent.run("go")
    return told[-1]


async def google_adk(url: str, calls: list[dict]) -> str:
    from google.adk.agents import LlmAgent
    from google.adk.models.base_llm import BaseLlm
    from google.adk.models.llm_response import LlmResponse
    from google.adk.runners import InMemoryRunner
    from google.adk.tools.mcp_tool import McpToolset
    from google.adk.tools.mcp_tool.mcp_session_manager import StreamableHTTPConnectionParams
    from google.genai import types

    told: list[str] = []

    class Scripted(BaseLlm):
        async def generate_content_async(self, llm_request, stream=False):
            parts = [part for content in llm_request.contents for part in content.parts or []]
            answers = [part.function_response.response for part in parts if part.function_response]
            told[:] = [text_of(answer) for answer in answers]
            if len(answers) < len(calls):
                call = calls[len(answers)]
                part = types.Part(function_call=types.FunctionCall(name=call["tool"], args=call["arguments"]))
            else:
                part = types.Part(text="done")
            yield LlmResponse(content=types.Content(role="model", parts=[part]))

    toolset = McpToolset(connection_params=StreamableHTTPConnectionParams(url=url, timeout=30))
    agent = LlmAgent(name="agent", model=Scripted(model="scripted"), tools=[toolset])
    runner = InMemoryRunner(agent=agent)
    session = await runner.session_service.create_session(app_name=runner.app_name, user_id="user")
    message = types.Content(role="user", parts=[types.Part(text="go")])
    async for _ in runner.run_async(user_id="user", session_id=session.id, new_message=message):
        pass
    await toolset.close()
    return told[-1]


FRAMEWORKS = {
    "openai-agents": openai_agents,
    "langchain": langchain,
    "pydantic-ai": pydantic_ai,
    "google-adk": google_adk,
}


async def told(framework: str, url: str, calls: list[dict]) -> str:
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            return await FRAMEWORKS[framework](url, calls)
    except Exception as error:  # noqa: BLE001: a run that ends with an exception is the finding
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        return f"the run ends: {type(error).__name__}: {error}"


async def main(framework: str, operations: list[list[dict]], url: str) -> None:
    print(json.dumps([await told(framework, url, calls) for calls in operations]))


warnings.simplefilter("ignore")
asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]))
