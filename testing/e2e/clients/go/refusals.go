package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
)

type operation struct {
	Do        string         `json:"do"`
	What      string         `json:"what"`
	Arguments map[string]any `json:"arguments"`
}

type finding struct {
	Said  string `json:"said"`
	Lives bool   `json:"lives"`
}

func call(ctx context.Context, session *mcp.ClientSession, o operation) (string, error) {
	result, err := session.CallTool(ctx, &mcp.CallToolParams{Name: o.What, Arguments: o.Arguments})
	if err != nil {
		return "", err
	}
	if result.IsError {
		if text, ok := result.Content[0].(*mcp.TextContent); ok {
			return "failed result: " + text.Text, nil
		}
		return "failed result", nil
	}
	return "a result", nil
}

func operate(ctx context.Context, session *mcp.ClientSession, o operation) (string, error) {
	var err error
	switch o.Do {
	case "call":
		return call(ctx, session, o)
	case "call_twice":
		if _, err := call(ctx, session, o); err != nil {
			return "", err
		}
		return call(ctx, session, o)
	case "read":
		_, err = session.ReadResource(ctx, &mcp.ReadResourceParams{URI: o.What})
	case "prompt":
		_, err = session.GetPrompt(ctx, &mcp.GetPromptParams{Name: o.What})
	case "complete":
		reference := &mcp.CompleteReference{Type: "ref/prompt", Name: o.What}
		argument := mcp.CompleteParamsArgument{Name: "a", Value: "b"}
		_, err = session.Complete(ctx, &mcp.CompleteParams{Ref: reference, Argument: argument})
	case "list":
		_, err = session.ListTools(ctx, &mcp.ListToolsParams{Cursor: o.What})
	case "ping":
		err = session.Ping(ctx, nil)
	default:
		err = fmt.Errorf("%s is not known", o.Do)
	}
	return "a result", err
}

// Each operation on a connection of its own, then a list on the same one.
func refusals(operations []operation, url, version string) []finding {
	var findings []finding
	for _, o := range operations {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		client := mcp.NewClient(&mcp.Implementation{Name: "vmcp-e2e", Version: "1.0.0"}, nil)
		session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url}, sessionOptions(version))
		if err != nil {
			log.Fatal(err)
		}
		said, err := operate(ctx, session, o)
		if err != nil {
			said = err.Error()
		}
		listed, err := session.ListTools(ctx, nil)
		findings = append(findings, finding{said, err == nil && len(listed.Tools) > 0})
		// A client that has ended cannot be closed.
		_ = session.Close()
		cancel()
	}
	return findings
}

func printRefusals(operations, url, version string) {
	var parsed []operation
	if err := json.Unmarshal([]byte(operations), &parsed); err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(refusals(parsed, url, version)); err != nil {
		log.Fatal(err)
	}
}
