//go:build older

package main

import "github.com/modelcontextprotocol/go-sdk/mcp"

// This version of the SDK offers no choice: it speaks the newest revision that the server has too.
func sessionOptions(string) *mcp.ClientSessionOptions {
	return nil
}
