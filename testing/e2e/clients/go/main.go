// The official Go SDK's client: lists everything, calls each tool, prints what it saw as JSON. Argument: URL. With the
// arguments operations, URL and revision it prints what becomes of each operation.
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

type seen struct {
	Tools     []string          `json:"tools"`
	Prompts   []string          `json:"prompts"`
	Resources []string          `json:"resources"`
	Answers   map[string]string `json:"answers"`
}

func look(ctx context.Context, session *mcp.ClientSession) (*seen, error) {
	found := &seen{Answers: map[string]string{}}
	for tool, err := range session.Tools(ctx, nil) {
		if err != nil {
			return nil, fmt.Errorf("tools: %w", err)
		}
		found.Tools = append(found.Tools, tool.Name)
		call := &mcp.CallToolParams{Name: tool.Name, Arguments: map[string]any{"text": "hello"}}
		result, err := session.CallTool(ctx, call)
		if err != nil {
			return nil, fmt.Errorf("call %s: %w", tool.Name, err)
		}
		text, ok := result.Content[0].(*mcp.TextContent)
		if !ok {
			return nil, fmt.Errorf("call %s: no text", tool.Name)
		}
		found.Answers[tool.Name] = text.Text
	}
	for prompt, err := range session.Prompts(ctx, nil) {
		if err != nil {
			return nil, fmt.Errorf("prompts: %w", err)
		}
		found.Prompts = append(found.Prompts, prompt.Name)
	}
	for resource, err := range session.Resources(ctx, nil) {
		if err != nil {
			return nil, fmt.Errorf("resources: %w", err)
		}
		found.Resources = append(found.Resources, resource.URI)
	}
	return found, nil
}

func main() {
	if len(os.Args) > 3 {
		printRefusals(os.Args[1], os.Args[2], os.Args[3])
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := mcp.NewClient(&mcp.Implementation{Name: "vmcp-e2e", Version: "1.0.0"}, nil)
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: os.Args[1]}, nil)
	if err != nil {
		log.Fatal(err)
	}
	found, err := look(ctx, session)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
	if err := session.Close(); err != nil {
		log.Fatal(err)
	}
}
