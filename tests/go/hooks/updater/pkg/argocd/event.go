// Package argocd is what the parsers give: what they are asked for.
package argocd

// WebhookEvent is an image that was pushed.
type WebhookEvent struct {
	RegistryURL, Repository, Tag, Digest string
}
