// What tools of GitOps make of resources: for each object, what kstatus (Flux, kpt) computes by its own code, and what
// a health script of Argo CD returns, run as Argo CD runs it: by the same Lua machine, with its base and table
// libraries alone, for at most a second.
//
// Standard input: {"scripts": {"Kind": "Lua", …}, "objects": [{…}, …]}. Standard output, one entry for each object:
// [{"kstatus": "Current", "says": "…", "argo": "Healthy", "argoSays": "…"}, …].
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type question struct {
	Scripts map[string]string `json:"scripts"`
	Objects []json.RawMessage `json:"objects"`
}

type answer struct {
	Kstatus  string `json:"kstatus"`
	Says     string `json:"says"`
	Argo     string `json:"argo"`
	ArgoSays string `json:"argoSays"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "health:", err)
		os.Exit(1)
	}
}

func run() error {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return fmt.Errorf("reading the question: %w", err)
	}
	answers := make([]answer, 0, len(asked.Objects))
	for number, text := range asked.Objects {
		given, err := judge(asked.Scripts, text)
		if err != nil {
			return fmt.Errorf("object %d: %w", number, err)
		}
		answers = append(answers, given)
	}
	return json.NewEncoder(os.Stdout).Encode(answers)
}

func judge(scripts map[string]string, text []byte) (answer, error) {
	var object unstructured.Unstructured
	// Whole numbers become int64, as in a client of Kubernetes: kstatus takes no others.
	if err := object.UnmarshalJSON(text); err != nil {
		return answer{}, err
	}
	computed, err := status.Compute(&object)
	if err != nil {
		return answer{}, fmt.Errorf("kstatus: %w", err)
	}
	script, known := scripts[object.GetKind()]
	if !known {
		return answer{}, fmt.Errorf("there is no script for the kind %s", object.GetKind())
	}
	health, says, err := runScript(script, object.Object)
	if err != nil {
		return answer{}, fmt.Errorf("the script of %s: %w", object.GetKind(), err)
	}
	return answer{Kstatus: string(computed.Status), Says: computed.Message, Argo: health, ArgoSays: says}, nil
}

// runScript gives the fields `status` and `message` of the table that the script returns.
func runScript(script string, object map[string]any) (string, string, error) {
	machine := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer machine.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}} {
		machine.Push(machine.NewFunction(library.open))
		machine.Push(lua.LString(library.name))
		machine.Call(1, 0)
	}
	limit, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	machine.SetContext(limit)
	machine.SetGlobal("obj", toLua(machine, object))
	if err := machine.DoString(script); err != nil {
		return "", "", err
	}
	table, isTable := machine.Get(-1).(*lua.LTable)
	if !isTable {
		return "", "", errors.New("it returns no table")
	}
	field := func(name string) string { return lua.LVAsString(table.RawGetString(name)) }
	return field("status"), field("message"), nil
}

func toLua(machine *lua.LState, value any) lua.LValue {
	switch it := value.(type) {
	case map[string]any:
		table := machine.NewTable()
		for name, field := range it {
			table.RawSetString(name, toLua(machine, field))
		}
		return table
	case []any:
		table := machine.NewTable()
		for _, item := range it {
			table.Append(toLua(machine, item))
		}
		return table
	case string:
		return lua.LString(it)
	case bool:
		return lua.LBool(it)
	case int64:
		return lua.LNumber(it)
	case float64:
		return lua.LNumber(it)
	default:
		return lua.LNil
	}
}
