//go:build !older

package main

import "github.com/modelcontextprotocol/go-sdk/mcp"

// The session speaks the given revision.
func sessionOptions(version string) *mcp.ClientSessionOptions {
	return &mcp.ClientSessionOptions{ProtocolVersion: version}
}
