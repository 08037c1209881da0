// Rule by rule: Thompson's construction, then the subset construction over bytes and calls; then what leads nowhere is cut.
#include "loraine/grammar/automaton.h"

#include <algorithm>
#include <map>
#include <unordered_map>

namespace loraine::grammar {
namespace {

// Units of work in which compile time is counted, so that the same grammar is refused on every machine: about 5 ns each.
constexpr int64_t kMostWork = 30'000'000;
constexpr int kMostNesting = 2000;

struct Budget {
  int64_t left = kMostWork;
  void spend(size_t units) {
    if ((left -= static_cast<int64_t>(units)) < 0)
      throw GrammarError("grammar_too_large", "", "the grammar takes too long to compile; use fewer or smaller parts and repetitions");
  }
};

struct Nfa {
  struct State {
    std::vector<int32_t> empty;
    std::vector<Automaton::Edge> edges;
    std::vector<Automaton::Call> calls;
  };
  std::vector<State> states;
  int32_t add() {
    states.emplace_back();
    return static_cast<int32_t>(states.size() - 1);
  }
  State& at(int32_t state) { return states[static_cast<size_t>(state)]; }
};

class Builder {
 public:
  Builder(const Rules& rules, Budget& budget, Nfa& nfa) : rules_(rules), budget_(budget), nfa_(nfa) {}

  void build(Rules::Node node, int32_t from, int32_t to, int depth = 0) {
    if (depth > kMostNesting) throw GrammarError("grammar_too_large", "", "the grammar is nested too deeply");
    budget_.spend(4);
    const Rules::Part& part = rules_.part(node);
    switch (part.kind) {
      case Rules::Kind::literal: {
        if (part.bytes.empty()) {
          nfa_.at(from).empty.push_back(to);
          return;
        }
        budget_.spend(part.bytes.size() * 4);
        for (size_t i = 0; i < part.bytes.size(); ++i) {
          const int32_t next = i + 1 == part.bytes.size() ? to : nfa_.add();
          const uint8_t byte = static_cast<uint8_t>(part.bytes[i]);
          nfa_.at(from).edges.push_back({byte, byte, next});
          from = next;
        }
        return;
      }
      case Rules::Kind::range: nfa_.at(from).edges.push_back({part.first, part.last, to}); return;
      case Rules::Kind::call: nfa_.at(from).calls.push_back({part.rule, to}); return;
      case Rules::Kind::sequence:
        for (size_t i = 0; i < part.parts.size(); ++i) {
          const int32_t next = i + 1 == part.parts.size() ? to : nfa_.add();
          build(part.parts[i], from, next, depth + 1);
          from = next;
        }
        return;
      case Rules::Kind::choice:
        for (Rules::Node alternative : part.parts) build(alternative, from, to, depth + 1);
        return;
      case Rules::Kind::repeat: {
        for (int64_t i = 0; i < part.least; ++i) {
          const int32_t next = nfa_.add();
          build(part.parts[0], from, next, depth + 1);
          from = next;
        }
        if (part.most == Rules::kUnbounded) {
          const int32_t loop = nfa_.add();
          nfa_.at(from).empty.push_back(loop);
          const int32_t back = nfa_.add();
          build(part.parts[0], loop, back, depth + 1);
          nfa_.at(back).empty.push_back(loop);
          nfa_.at(loop).empty.push_back(to);
          return;
        }
        for (int64_t i = part.least; i < part.most; ++i) {
          nfa_.at(from).empty.push_back(to);
          const int32_t next = nfa_.add();
          build(part.parts[0], from, next, depth + 1);
          from = next;
        }
        nfa_.at(from).empty.push_back(to);
        return;
      }
      case Rules::Kind::graph: {
        const int32_t first = static_cast<int32_t>(nfa_.states.size());
        for (int32_t i = 0; i < part.states; ++i) nfa_.add();
        nfa_.at(from).empty.push_back(first);
        for (const Rules::Edge& edge : part.edges) build(edge.label, first + edge.from, first + edge.to, depth + 1);
        for (int32_t state : part.finals) nfa_.at(first + state).empty.push_back(to);
        return;
      }
    }
  }

 private:
  const Rules& rules_;
  Budget& budget_;
  Nfa& nfa_;
};

struct Hash {
  size_t operator()(const std::vector<int32_t>& set) const {
    size_t h = set.size();
    for (int32_t x : set) h = (h ^ static_cast<size_t>(x)) * 0x9E3779B97F4A7C15ull;
    return h ^ (h >> 29);
  }
};

// The states of one rule, appended to `out`; returns the first.
class Subsets {
 public:
  Subsets(const Nfa& nfa, int32_t last, Budget& budget, Automaton& out)
      : nfa_(nfa), last_(last), budget_(budget), out_(out), marked_(nfa.states.size(), 0) {}

  int32_t run(int32_t first) {
    const int32_t start = id_of({first});
    while (next_ < sets_.size()) expand(next_++);
    return start;
  }

 private:
  std::vector<int32_t> closed(std::vector<int32_t> set) {
    ++mark_;
    std::vector<int32_t> out;
    while (!set.empty()) {
      const int32_t state = set.back();
      set.pop_back();
      if (marked_[static_cast<size_t>(state)] == mark_) continue;
      marked_[static_cast<size_t>(state)] = mark_;
      const Nfa::State& s = nfa_.states[static_cast<size_t>(state)];
      if (!s.edges.empty() || !s.calls.empty() || state == last_) out.push_back(state);  // others do nothing
      set.insert(set.end(), s.empty.begin(), s.empty.end());
      budget_.spend(1 + s.empty.size());
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  int32_t id_of(std::vector<int32_t> set) {
    set = closed(std::move(set));
    const auto [place, is_new] = known_.try_emplace(set, static_cast<int32_t>(out_.states.size()));
    if (is_new) {
      budget_.spend(40);
      out_.states.emplace_back();
      sets_.emplace_back(place->second, std::move(set));
    }
    return place->second;
  }

  void expand(size_t number) {
    const auto [id, set] = sets_[number];
    std::vector<std::pair<int, int>> borders;  // (byte, +1 or -1 …): where the set of edges changes
    std::map<int32_t, std::vector<int32_t>> called;
    std::vector<Automaton::Edge> all;
    bool final = false;
    for (int32_t state : set) {
      const Nfa::State& s = nfa_.states[static_cast<size_t>(state)];
      all.insert(all.end(), s.edges.begin(), s.edges.end());
      for (const Automaton::Call& call : s.calls) called[call.rule].push_back(call.to);
      final |= state == last_;
    }
    std::vector<int> cuts;
    for (const Automaton::Edge& edge : all) cuts.insert(cuts.end(), {edge.first, edge.last + 1});
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    std::vector<Automaton::Edge> edges;
    std::vector<Automaton::Edge> open;
    size_t taken = 0;
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      while (taken < all.size() && all[taken].first <= cuts[i]) open.push_back(all[taken++]);
      std::erase_if(open, [&](const Automaton::Edge& edge) { return edge.last < cuts[i]; });
      budget_.spend(4 + open.size());
      if (open.empty()) continue;
      std::vector<int32_t> targets;
      for (const Automaton::Edge& edge : open) targets.push_back(edge.to);
      const int32_t to = id_of(std::move(targets));
      if (!edges.empty() && edges.back().to == to && edges.back().last + 1 == cuts[i])
        edges.back().last = static_cast<uint8_t>(cuts[i + 1] - 1);
      else edges.push_back({static_cast<uint8_t>(cuts[i]), static_cast<uint8_t>(cuts[i + 1] - 1), to});
    }
    std::vector<Automaton::Call> calls;
    for (auto& [rule, targets] : called) calls.push_back({rule, id_of(std::move(targets))});
    Automaton::State& state = out_.states[static_cast<size_t>(id)];
    state.final = final;
    state.edges = static_cast<uint32_t>(out_.edges.size());
    out_.edges.insert(out_.edges.end(), edges.begin(), edges.end());
    state.edges_end = static_cast<uint32_t>(out_.edges.size());
    state.calls = static_cast<uint32_t>(out_.calls.size());
    out_.calls.insert(out_.calls.end(), calls.begin(), calls.end());
    state.calls_end = static_cast<uint32_t>(out_.calls.size());
  }

  const Nfa& nfa_;
  const int32_t last_;
  Budget& budget_;
  Automaton& out_;
  std::vector<uint32_t> marked_;
  uint32_t mark_ = 0;
  std::unordered_map<std::vector<int32_t>, int32_t, Hash> known_;
  std::vector<std::pair<int32_t, std::vector<int32_t>>> sets_;
  size_t next_ = 0;
};

template <class T>
auto part_of(const std::vector<T>& all, uint32_t from, uint32_t to) {
  return std::pair(all.begin() + from, all.begin() + to);
}

// Repeats `pass` over all states until it changes nothing.
template <class F>
void until_stable(Budget& budget, size_t states, const F& pass) {
  for (bool changed = true; changed;) {
    budget.spend(states);
    changed = pass();
  }
}

// Which states can reach the end of their rule; with it which rules derive a text (`starts` alive).
std::vector<bool> alive_states(Automaton& a, Budget& budget) {
  std::vector<bool> alive(a.states.size(), false);
  const auto derives = [&](int32_t rule) { return alive[static_cast<size_t>(a.starts[static_cast<size_t>(rule)])]; };
  until_stable(budget, a.states.size() + a.edges.size() + a.calls.size(), [&] {
    bool changed = false;
    for (size_t i = a.states.size(); i-- > 0;) {
      if (alive[i]) continue;
      const Automaton::State& s = a.states[i];
      bool is = s.final;
      if (s.loop >= 0) {
        const Automaton::Loop& loop = a.loops[static_cast<size_t>(s.loop)];
        is = loop.least == 0 || derives(loop.rule);
      }
      for (uint32_t e = s.edges; e < s.edges_end && !is; ++e) is = alive[static_cast<size_t>(a.edges[e].to)];
      for (uint32_t c = s.calls; c < s.calls_end && !is; ++c) is = alive[static_cast<size_t>(a.calls[c].to)] && derives(a.calls[c].rule);
      if (is) alive[i] = changed = true;
    }
    return changed;
  });
  return alive;
}

void cut_dead_ends(Automaton& a, Budget& budget) {
  const std::vector<bool> alive = alive_states(a, budget);
  const auto derives = [&](int32_t rule) { return alive[static_cast<size_t>(a.starts[static_cast<size_t>(rule)])]; };
  std::vector<Automaton::Edge> edges;
  std::vector<Automaton::Call> calls;
  for (Automaton::State& s : a.states) {
    const auto [e, e_end] = part_of(a.edges, s.edges, s.edges_end);
    s.edges = static_cast<uint32_t>(edges.size());
    std::copy_if(e, e_end, std::back_inserter(edges), [&](const auto& edge) { return alive[static_cast<size_t>(edge.to)]; });
    s.edges_end = static_cast<uint32_t>(edges.size());
    const auto [c, c_end] = part_of(a.calls, s.calls, s.calls_end);
    s.calls = static_cast<uint32_t>(calls.size());
    std::copy_if(c, c_end, std::back_inserter(calls),
                 [&](const auto& call) { return alive[static_cast<size_t>(call.to)] && derives(call.rule); });
    s.calls_end = static_cast<uint32_t>(calls.size());
  }
  for (Automaton::Loop& loop : a.loops)
    if (!derives(loop.rule)) loop.most = 0;
  a.edges = std::move(edges);
  a.calls = std::move(calls);
  for (int32_t& start : a.starts)
    if (!alive[static_cast<size_t>(start)]) start = -1;
}

// Rules that the root comes to.
std::vector<bool> reached_rules(const Automaton& a, Rules::Rule root) {
  std::vector<bool> rules(a.starts.size(), false), seen(a.states.size(), false);
  std::vector<int32_t> todo;
  const auto visit = [&](int32_t state) {
    if (!seen[static_cast<size_t>(state)]) seen[static_cast<size_t>(state)] = true, todo.push_back(state);
  };
  const auto call = [&](int32_t rule) {
    rules[static_cast<size_t>(rule)] = true;
    if (a.starts[static_cast<size_t>(rule)] >= 0) visit(a.starts[static_cast<size_t>(rule)]);
  };
  call(root);
  while (!todo.empty()) {
    const Automaton::State s = a.states[static_cast<size_t>(todo.back())];
    todo.pop_back();
    if (s.loop >= 0) call(a.loops[static_cast<size_t>(s.loop)].rule);
    for (uint32_t e = s.edges; e < s.edges_end; ++e) visit(a.edges[e].to);
    for (uint32_t c = s.calls; c < s.calls_end; ++c) call(a.calls[c].rule), visit(a.calls[c].to);
  }
  return rules;
}

// A rule that calls itself before it has read a byte would be entered without end.
void refuse_left_recursion(const Automaton& a, const Rules& rules, Rules::Rule first, Budget& budget) {
  const std::vector<bool> reached = reached_rules(a, first);
  const size_t n = a.starts.size();
  std::vector<bool> empty(n, false);                  // rules that derive the empty text
  std::vector<std::vector<int32_t>> left(n);          // rules that a rule may call before it has read a byte
  const auto look = [&](size_t rule, bool collect) {  // states that the rule gets to without a byte
    if (a.starts[rule] < 0) return false;
    std::vector<int32_t> todo{a.starts[rule]};
    std::vector<int32_t> seen = todo;
    bool final = false;
    while (!todo.empty()) {
      const Automaton::State& s = a.states[static_cast<size_t>(todo.back())];
      todo.pop_back();
      budget.spend(1 + seen.size() / 8);
      final |= s.final;
      if (s.loop >= 0) {
        const Automaton::Loop& loop = a.loops[static_cast<size_t>(s.loop)];
        final |= loop.least == 0 || empty[static_cast<size_t>(loop.rule)];
        if (collect && loop.most != 0) left[rule].push_back(loop.rule);
      }
      for (uint32_t c = s.calls; c < s.calls_end; ++c) {
        if (collect) left[rule].push_back(a.calls[c].rule);
        if (!empty[static_cast<size_t>(a.calls[c].rule)]) continue;
        if (std::find(seen.begin(), seen.end(), a.calls[c].to) != seen.end()) continue;
        seen.push_back(a.calls[c].to);
        todo.push_back(a.calls[c].to);
      }
    }
    return final;
  };
  until_stable(budget, n, [&] {
    bool changed = false;
    for (size_t rule = n; rule-- > 0;)
      if (!empty[rule] && look(rule, false)) empty[rule] = changed = true;
    return changed;
  });
  for (size_t rule = 0; rule < n; ++rule) look(rule, true);
  std::vector<uint8_t> colour(n, 0);  // 1: on the path, 2: done
  for (size_t root = 0; root < n; ++root) {
    std::vector<std::pair<size_t, size_t>> path;  // rule, next of its calls
    if (colour[root] == 0 && reached[root]) path.emplace_back(root, 0), colour[root] = 1;
    while (!path.empty()) {
      auto& [rule, at] = path.back();
      if (at == left[rule].size()) {
        colour[rule] = 2;
        path.pop_back();
        continue;
      }
      const size_t next = static_cast<size_t>(left[rule][at++]);
      if (colour[next] == 1)
        throw GrammarError("unsupported_schema", rules.definitions()[next].name,
                           "refers to itself with nothing in between, so it has no end");
      if (colour[next] == 0) path.emplace_back(next, 0), colour[next] = 1;
    }
  }
}

void set_classes(Automaton& a) {
  std::array<bool, 257> border{};
  for (const Automaton::Edge& edge : a.edges) border[edge.first] = border[edge.last + 1u] = true;
  int number = -1;
  for (size_t byte = 0; byte < 256; ++byte) {
    if (byte == 0 || border[byte]) {
      ++number;
      a.class_byte.push_back(static_cast<uint8_t>(byte));
    }
    a.class_of[byte] = static_cast<uint8_t>(number);
  }
}

}  // namespace

std::shared_ptr<const Automaton> compile(const Rules& given, Rules::Rule root) {
  Rules rules = given;
  const Rules::Rule spaced = rules.add("root", rules.sequence({rules.optional(rules.literal(" ")), rules.call(root)}));
  auto out = std::make_shared<Automaton>();
  Automaton& a = *out;
  Budget budget;
  for (const Rules::Definition& definition : rules.definitions()) {
    if (definition.counted >= 0) {
      const auto whole = [](int64_t n) { return static_cast<int32_t>(std::min<int64_t>(n, INT32_MAX)); };
      a.starts.push_back(static_cast<int32_t>(a.states.size()));
      a.states.emplace_back();
      a.states.back().loop = static_cast<int32_t>(a.loops.size());
      a.loops.push_back({definition.counted, whole(definition.least), whole(definition.most)});
      continue;
    }
    Nfa nfa;
    const int32_t first = nfa.add(), last = nfa.add();
    Builder(rules, budget, nfa).build(definition.body, first, last);
    a.starts.push_back(Subsets(nfa, last, budget, a).run(first));
  }
  cut_dead_ends(a, budget);
  if (a.starts[static_cast<size_t>(root)] < 0)
    throw GrammarError("unsupported_schema", given.definitions()[static_cast<size_t>(root)].name, "nothing can satisfy it");
  refuse_left_recursion(a, rules, root, budget);
  set_classes(a);
  a.start = a.starts[static_cast<size_t>(root)];
  a.spaced_start = a.starts[static_cast<size_t>(spaced)];
  return out;
}

}  // namespace loraine::grammar
