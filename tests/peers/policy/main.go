// Cilium's own policy engine, asked what it would do.
//
// Reads one JSON object a line: policies (manifests of CiliumNetworkPolicy or NetworkPolicy), ends
// (the labels of each identity, as "source:key=value") and flows (indices of the ends, protocol
// number, port). Answers each with one line: whether each flow passes, or what is wrong.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"

	"github.com/cilium/cilium/pkg/identity"
	"github.com/cilium/cilium/pkg/identity/identitymanager"
	"github.com/cilium/cilium/pkg/k8s"
	ciliumv2 "github.com/cilium/cilium/pkg/k8s/apis/cilium.io/v2"
	networkingv1 "github.com/cilium/cilium/pkg/k8s/slim/k8s/api/networking/v1"
	"github.com/cilium/cilium/pkg/labels"
	"github.com/cilium/cilium/pkg/option"
	"github.com/cilium/cilium/pkg/policy"
	"github.com/cilium/cilium/pkg/policy/api"
	"github.com/cilium/cilium/pkg/policy/types"
	"github.com/cilium/cilium/pkg/policy/utils"
	testidentity "github.com/cilium/cilium/pkg/testutils/identity"
	testpolicy "github.com/cilium/cilium/pkg/testutils/policy"
	"github.com/cilium/cilium/pkg/u8proto"
)

type question struct {
	Policies []json.RawMessage `json:"policies"`
	Ends     [][]string        `json:"ends"`
	Flows    [][4]int          `json:"flows"` // from, to, protocol, port
}

type answer struct {
	Passes []bool `json:"passes"`
	Error  string `json:"error,omitempty"`
}

const firstIdentity = 1000

func main() {
	option.Config.EnableL7Proxy = true
	option.Config.EnableICMPRules = true
	option.Config.EnableNonDefaultDenyPolicies = true
	option.Config.AllowLocalhost = option.AllowLocalhostAlways // as the agent does in Kubernetes
	option.Config.EnableIPv4, option.Config.EnableIPv6 = true, true
	api.InitEntities("default")
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<26)
	out := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		passes, err := verdicts(lines.Bytes())
		told := answer{Passes: passes}
		if err != nil {
			told = answer{Error: err.Error()}
		}
		if err := out.Encode(told); err != nil {
			os.Exit(1)
		}
	}
}

func verdicts(line []byte) ([]bool, error) {
	var asked question
	if err := json.Unmarshal(line, &asked); err != nil {
		return nil, err
	}
	logger := slog.New(slog.DiscardHandler)
	ends := make([]*identity.Identity, len(asked.Ends))
	known := identity.IdentityMap{}
	for at, texts := range asked.Ends {
		array := labels.NewLabelsFromModel(texts).LabelArray()
		number := identity.NumericIdentity(firstIdentity + at)
		if reserved := identity.LookupReservedIdentityByLabels(array.Labels()); reserved != nil {
			number = reserved.ID
		}
		ends[at] = identity.NewIdentityFromLabelArray(number, array)
		known[number] = array
	}
	manager := identitymanager.NewIDManager(logger)
	repository := policy.NewPolicyRepository(logger, known, nil, nil, manager, testpolicy.NewPolicyMetricsNoop())
	repository.GetSelectorCache().SetLocalIdentityNotifier(testidentity.NewDummyIdentityNotifier())
	repository.GetSubjectSelectorCache().UpdateIdentities(known, nil, nil)
	for _, manifest := range asked.Policies {
		entries, err := parsed(logger, manifest)
		if err != nil {
			return nil, err
		}
		repository.MustAddPolicyEntries(entries)
	}
	passes := make([]bool, len(asked.Flows))
	for at, flow := range asked.Flows {
		verdict, _, _, err := policy.LookupFlow(logger, repository, manager, types.Flow{
			From:  ends[flow[0]],
			To:    ends[flow[1]],
			Proto: u8proto.U8proto(flow[2]),
			Dport: uint16(flow[3]),
		})
		if err != nil {
			return nil, fmt.Errorf("flow %d: %w", at, err)
		}
		passes[at] = verdict.Allowed()
	}
	return passes, nil
}

func parsed(logger *slog.Logger, manifest []byte) (types.PolicyEntries, error) {
	var kind struct {
		Kind string `json:"kind"`
	}
	if err := json.Unmarshal(manifest, &kind); err != nil {
		return nil, err
	}
	if kind.Kind == "NetworkPolicy" {
		var one networkingv1.NetworkPolicy
		if err := json.Unmarshal(manifest, &one); err != nil {
			return nil, err
		}
		// Of any cluster: of one only, an ipBlock would let in the policy's own namespace as well.
		return k8s.ParseNetworkPolicy(logger, "", &one)
	}
	var one ciliumv2.CiliumNetworkPolicy
	if err := json.Unmarshal(manifest, &one); err != nil {
		return nil, err
	}
	rules, err := one.Parse(logger, "default")
	if err != nil {
		return nil, err
	}
	return utils.RulesToPolicyEntries(rules), nil
}
