// Gives one request to the webhook of Argo CD, and says what came of it: the answer, and the applications that it refreshes. With
// the argument "application" it writes applications as Argo CD does, in every state that it knows.
//
// Nothing here is a copy: the handler is the one that argocd-server runs. Only the cluster below it is that of client-go's tests.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/argoproj/argo-cd/gitops-engine/v3/pkg/health"
	"github.com/argoproj/argo-cd/gitops-engine/v3/pkg/sync/common"
	listers "github.com/argoproj/argo-cd/v3/pkg/client/listers/application/v1alpha1"
	servercache "github.com/argoproj/argo-cd/v3/server/cache"
	"github.com/argoproj/argo-cd/v3/util/cache/appstate"
	"github.com/argoproj/argo-cd/v3/util/db"
	"github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

	"github.com/argoproj/argo-cd/v3/pkg/apis/application/v1alpha1"
	"github.com/argoproj/argo-cd/v3/pkg/client/clientset/versioned/fake"
	repocache "github.com/argoproj/argo-cd/v3/reposerver/cache"
	cacheutil "github.com/argoproj/argo-cd/v3/util/cache"
	"github.com/argoproj/argo-cd/v3/util/settings"
	"github.com/argoproj/argo-cd/v3/util/webhook"
)

const (
	namespace = "argocd"
	patience  = 20 * time.Second
)

// What is read.
type input struct {
	// What stands under webhook.gogs.secret.
	Secret       string            `json:"secret"`
	Headers      map[string]string `json:"headers"`
	Body         string            `json:"body"`
	Applications []application     `json:"applications"`
}

type application struct {
	Name     string `json:"name"`
	RepoURL  string `json:"repo_url"`
	Revision string `json:"revision"`
	// The annotation argocd.argoproj.io/manifest-generate-paths.
	Paths string `json:"paths"`
}

// What is written.
type output struct {
	Status    int      `json:"status"`
	Answer    string   `json:"answer"`
	Refreshed []string `json:"refreshed"`
}

// Settings that the handler asks for.
type source struct{}

func (source) GetAppInstanceLabelKey() (string, error) { return "app.kubernetes.io/instance", nil }
func (source) GetTrackingMethod() (string, error)      { return "annotation", nil }
func (source) GetInstallationID() (string, error)      { return "", nil }

// The database, of which only the repositories are asked for. Their caches stay cold.
type repositories struct {
	db.ArgoDB
	urls []string
}

func (r repositories) ListRepositories(context.Context) ([]*v1alpha1.Repository, error) {
	var list []*v1alpha1.Repository
	for _, url := range r.urls {
		list = append(list, &v1alpha1.Repository{Repo: url, WebhookManifestCacheWarmDisabled: true})
	}
	return list, nil
}

// Says when the handler has looked at all applications.
type end chan struct{}

func (end) Levels() []logrus.Level { return []logrus.Level{logrus.InfoLevel} }

func (e end) Fire(entry *logrus.Entry) error {
	if strings.HasPrefix(entry.Message, "Webhook handler completed") {
		close(e)
	}
	return nil
}

func main() {
	logrus.SetOutput(os.Stderr)
	var out any
	if len(os.Args) > 1 && os.Args[1] == "application" {
		out = applications()
	} else {
		var in input
		if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
			fmt.Fprintln(os.Stderr, "the input is not what is expected:", err)
			os.Exit(2)
		}
		out = handle(in)
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// An application, and the names of the states that it is in.
type state struct {
	Sync        v1alpha1.SyncStatusCode `json:"sync"`
	Health      health.HealthStatusCode `json:"health"`
	Phase       common.OperationPhase   `json:"phase"`
	Application v1alpha1.Application    `json:"application"`
}

func applications() []state {
	var states []state
	finished := v1.NewTime(time.Date(2026, 1, 1, 0, 0, 5, 0, time.UTC))
	reconciled := v1.NewTime(time.Date(2026, 1, 1, 1, 0, 9, 0, time.FixedZone("CET", 3600)))
	for _, sync := range []v1alpha1.SyncStatusCode{v1alpha1.SyncStatusCodeSynced, v1alpha1.SyncStatusCodeOutOfSync, v1alpha1.SyncStatusCodeUnknown} {
		for _, healthy := range []health.HealthStatusCode{
			health.HealthStatusUnknown, health.HealthStatusProgressing, health.HealthStatusHealthy,
			health.HealthStatusSuspended, health.HealthStatusDegraded, health.HealthStatusMissing,
		} {
			for _, phase := range []common.OperationPhase{
				common.OperationRunning, common.OperationTerminating, common.OperationFailed, common.OperationError, common.OperationSucceeded,
			} {
				app := v1alpha1.Application{
					ObjectMeta: v1.ObjectMeta{Name: "tinybird", Namespace: namespace},
					Status: v1alpha1.ApplicationStatus{
						Sync:         v1alpha1.SyncStatus{Status: sync, Revisions: []string{"15.2.1", "abc"}},
						Health:       v1alpha1.AppHealthStatus{Status: healthy},
						ReconciledAt: &reconciled,
						OperationState: &v1alpha1.OperationState{
							Phase: phase, Message: "it is so", FinishedAt: &finished,
							SyncResult: &v1alpha1.SyncOperationResult{Revisions: []string{"15.2.1", "abc"}},
						},
						Summary:    v1alpha1.ApplicationSummary{Images: []string{"redis:7"}},
						Conditions: []v1alpha1.ApplicationCondition{{Type: v1alpha1.ApplicationConditionComparisonError, Message: "no"}},
						Resources: []v1alpha1.ResourceStatus{
							{Kind: "Deployment", Name: "tinybird", Health: &v1alpha1.HealthStatus{Status: healthy, Message: "so"}},
							{Kind: "Service", Name: "tinybird"},
						},
					},
				}
				states = append(states, state{sync, healthy, phase, app})
			}
		}
	}
	// One that nobody has looked at.
	return append(states, state{Application: v1alpha1.Application{ObjectMeta: v1.ObjectMeta{Name: "tinybird"}}})
}

func handle(in input) output {
	index := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	var objects []runtime.Object
	var urls []string
	for _, app := range in.Applications {
		object := &v1alpha1.Application{
			ObjectMeta: v1.ObjectMeta{Name: app.Name, Namespace: namespace},
			Spec: v1alpha1.ApplicationSpec{
				Source: &v1alpha1.ApplicationSource{RepoURL: app.RepoURL, TargetRevision: app.Revision, Path: "k8s/overlays/prod"},
			},
		}
		if app.Paths != "" {
			object.Annotations = map[string]string{v1alpha1.AnnotationKeyManifestGeneratePaths: app.Paths}
		}
		objects = append(objects, object)
		urls = append(urls, app.RepoURL)
		if err := index.Add(object); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}

	var lock sync.Mutex
	refreshed := []string{}
	client := fake.NewSimpleClientset(objects...)
	client.PrependReactor("patch", "applications", func(action clienttesting.Action) (bool, runtime.Object, error) {
		patch, isPatch := action.(clienttesting.PatchAction)
		if isPatch && bytes.Contains(patch.GetPatch(), []byte(v1alpha1.AnnotationKeyRefresh)) {
			lock.Lock()
			defer lock.Unlock()
			refreshed = append(refreshed, patch.GetName())
		}
		return false, nil, nil
	})

	done := make(end)
	logrus.AddHook(done)
	memory := cacheutil.NewCache(cacheutil.NewInMemoryCache(time.Hour))
	handler := webhook.NewHandler(namespace, nil, 1, 1, client, listers.NewApplicationLister(index),
		&settings.ArgoCDSettings{WebhookGogsSecret: in.Secret}, source{},
		repocache.NewCache(memory, time.Minute, time.Minute, time.Second),
		servercache.NewCache(appstate.NewCache(memory, time.Minute), time.Minute, time.Minute),
		repositories{urls: urls}, 50<<20, 0, 10, nil)

	request := httptest.NewRequest(http.MethodPost, "/api/webhook", bytes.NewReader([]byte(in.Body)))
	for name, value := range in.Headers {
		request.Header.Set(name, value)
	}
	recorder := httptest.NewRecorder()
	handler.Handler(recorder, request)
	if recorder.Code == http.StatusOK {
		// What is found after a shutdown has begun would be dropped.
		select {
		case <-done:
		case <-time.After(patience):
			fmt.Fprintln(os.Stderr, "the handler took the event, and did not come to its end")
			os.Exit(1)
		}
	}
	// All refreshes that were asked for are made before this ends.
	handler.Shutdown()

	answer, _ := io.ReadAll(recorder.Body)
	slices.Sort(refreshed)
	return output{Status: recorder.Code, Answer: string(answer), Refreshed: refreshed}
}
