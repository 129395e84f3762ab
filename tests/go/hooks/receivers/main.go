// The code of other programs that receive webhooks, asked for what it makes of a request.
//
// A question is JSON on the standard input, with the request's body in base64. The answer is JSON on the standard output; a request
// that the other program refuses ends with 1 and its reason.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/distribution/distribution/v3/notifications"
	gitea "github.com/go-playground/webhooks/v6/gitea"
	playground "github.com/go-playground/webhooks/v6/github"
	gitlab "github.com/go-playground/webhooks/v6/gitlab"
	"github.com/google/go-github/v74/github"
	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

type question struct {
	Judge   string      `json:"judge"`
	Headers [][2]string `json:"headers"`
	Body    []byte      `json:"body"`
	Secret  string      `json:"secret"`
}

func (q question) request() *http.Request {
	request := httptest.NewRequest(http.MethodPost, "/hook", bytes.NewReader(q.Body))
	for _, header := range q.Headers {
		request.Header.Add(header[0], header[1])
	}
	return request
}

func judge(q question) (any, error) {
	switch q.Judge {
	case "distribution":
		return distribution(q)
	case "cloudevents":
		return cloudevent(q)
	case "flux-hmac":
		return nil, github.ValidateSignature(q.request().Header.Get("X-Signature"), q.Body, []byte(q.Secret))
	case "github":
		return fromGitHub(q)
	case "gitea":
		hook, err := gitea.New(gitea.Options.Secret(q.Secret))
		if err != nil {
			return nil, err
		}
		return hook.Parse(q.request(), gitea.PushEvent, gitea.DeleteEvent, gitea.PullRequestEvent)
	case "gitlab":
		hook, err := gitlab.New(gitlab.Options.Secret(q.Secret))
		if err != nil {
			return nil, err
		}
		return hook.Parse(q.request(), gitlab.PushEvents, gitlab.TagEvents, gitlab.MergeRequestEvents)
	case "standard":
		hook, err := standard.NewWebhook(q.Secret)
		if err != nil {
			return nil, err
		}
		return nil, hook.VerifyIgnoringTimestamp(q.Body, q.request().Header)
	}
	return nil, fmt.Errorf("there is no judge %q", q.Judge)
}

func distribution(q question) (any, error) {
	if q.request().Header.Get("Content-Type") != notifications.EventsMediaType {
		return nil, fmt.Errorf("the content type is not %s", notifications.EventsMediaType)
	}
	var envelope struct {
		Events []notifications.Event `json:"events"`
	}
	decoder := json.NewDecoder(bytes.NewReader(q.Body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&envelope); err != nil {
		return nil, err
	}
	for _, event := range envelope.Events {
		if event.Target.Digest != "" {
			if err := event.Target.Digest.Validate(); err != nil {
				return nil, err
			}
		}
	}
	return envelope, nil
}

func cloudevent(q question) (any, error) {
	if q.request().Header.Get("Content-Type") != cloudevents.ApplicationCloudEventsJSON {
		return nil, fmt.Errorf("the content type is not %s", cloudevents.ApplicationCloudEventsJSON)
	}
	var event cloudevents.Event
	if err := json.Unmarshal(q.Body, &event); err != nil {
		return nil, err
	}
	if err := event.Validate(); err != nil {
		return nil, err
	}
	return event, nil
}

// Two readers of the same deliveries, which must agree.
func fromGitHub(q question) (any, error) {
	payload, one := github.ValidatePayload(q.request(), []byte(q.Secret))
	hook, err := playground.New(playground.Options.Secret(q.Secret))
	if err != nil {
		return nil, err
	}
	_, other := hook.Parse(q.request(), playground.PushEvent, playground.PingEvent, playground.PullRequestEvent)
	form := q.request().Header.Get("Content-Type") != "application/json"
	if !form && (one == nil) != (other == nil) {
		return nil, fmt.Errorf("the judges do not agree: %v, %v", one, other)
	}
	if one != nil {
		return nil, one
	}
	return github.ParseWebHook(github.WebHookType(q.request()), payload)
}

func main() {
	var q question
	if err := json.NewDecoder(os.Stdin).Decode(&q); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	answer, err := judge(q)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(answer)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
