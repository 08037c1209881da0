// See characters.h.
#include "loraine/grammar/characters.h"

#include <algorithm>
#include <map>

namespace loraine::grammar {
namespace {

constexpr size_t kMostStates = 20'000;
constexpr int64_t kMostCharacterWork = 8'000'000;

[[noreturn]] void too_large() {
  throw GrammarError("grammar_too_large", "", "the pattern needs more than 20000 states; use smaller repetitions");
}

constexpr CharacterRange kBeforeSurrogates{0, 0xD7FF}, kBehindSurrogates{0xE000, kLastCharacter};

// Cuts off what cannot be reached or reaches no end.
CharacterAutomaton trimmed(CharacterAutomaton a) {
  const size_t n = a.states.size();
  std::vector<std::vector<int32_t>> before(n);
  std::vector<int32_t> todo;
  std::vector<bool> alive(n, false);
  for (size_t i = 0; i < n; ++i) {
    for (const auto& edge : a.states[i].edges) before[static_cast<size_t>(edge.to)].push_back(static_cast<int32_t>(i));
    if (a.states[i].final) todo.push_back(static_cast<int32_t>(i)), alive[i] = true;
  }
  while (!todo.empty()) {
    const size_t state = static_cast<size_t>(todo.back());
    todo.pop_back();
    for (int32_t other : before[state])
      if (!alive[static_cast<size_t>(other)]) alive[static_cast<size_t>(other)] = true, todo.push_back(other);
  }
  if (n == 0 || !alive[0]) return {};
  std::vector<int32_t> number(n, -1);
  std::vector<size_t> order{0};
  number[0] = 0;
  for (size_t at = 0; at < order.size(); ++at) {
    auto& edges = a.states[order[at]].edges;
    std::erase_if(edges, [&](const auto& edge) { return !alive[static_cast<size_t>(edge.to)]; });
    for (const auto& edge : edges)
      if (number[static_cast<size_t>(edge.to)] < 0) {
        number[static_cast<size_t>(edge.to)] = static_cast<int32_t>(order.size());
        order.push_back(static_cast<size_t>(edge.to));
      }
  }
  CharacterAutomaton out;
  for (const size_t state : order) {
    out.states.push_back(std::move(a.states[state]));
    for (auto& edge : out.states.back().edges) edge.to = number[static_cast<size_t>(edge.to)];
  }
  return out;
}

void add_edge(std::vector<CharacterAutomaton::Edge>& edges, CharacterRange range, int32_t to) {
  if (!edges.empty() && edges.back().to == to && edges.back().range.last + 1 == range.first) edges.back().range.last = range.last;
  else edges.push_back({range, to});
}

// Edges for all characters but those of `own` (ascending), which go to `to`.
void add_others(CharacterAutomaton::State& state, int32_t to) {
  std::vector<CharacterAutomaton::Edge> own = std::move(state.edges), all;
  std::sort(own.begin(), own.end(), [](const auto& a, const auto& b) { return a.range.first < b.range.first; });
  for (const CharacterRange part : {kBeforeSurrogates, kBehindSurrogates}) {
    char32_t at = part.first;
    for (const auto& edge : own) {
      if (edge.range.first < part.first || edge.range.first > part.last) continue;
      if (edge.range.first > at) all.push_back({{at, edge.range.first - 1}, to});
      all.push_back(edge);
      at = edge.range.last + 1;
    }
    if (at <= part.last) all.push_back({{at, part.last}, to});
  }
  state.edges = std::move(all);
}

// Knuth, Morris and Pratt: state k has read k characters of the marker; the last state ends the text.
CharacterAutomaton search(std::string_view marker) {
  const std::vector<char32_t> m = characters_of(marker);
  std::vector<size_t> border(m.size() + 1, 0);
  for (size_t i = 1; i < m.size(); ++i) {
    size_t k = border[i];
    while (k > 0 && m[k] != m[i]) k = border[k];
    border[i + 1] = m[k] == m[i] ? k + 1 : 0;
  }
  CharacterAutomaton out;
  out.states.resize(m.size() + 1);
  for (size_t state = 0; state < m.size(); ++state) {
    auto& edges = out.states[state].edges;
    for (size_t k = state;; k = border[k]) {  // the longest prefix that each character goes on with
      if (std::none_of(edges.begin(), edges.end(), [&](const auto& edge) { return edge.range.first == m[k]; }))
        edges.push_back({{m[k], m[k]}, static_cast<int32_t>(k + 1)});
      if (k == 0) break;
    }
    add_others(out.states[state], 0);
  }
  return out;
}

}  // namespace

std::vector<char32_t> characters_of(std::string_view text) {
  std::vector<char32_t> out;
  for (size_t at = 0; at < text.size();) {
    const uint8_t first = static_cast<uint8_t>(text[at]);
    const size_t length = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    char32_t c = length == 1 ? first : first & (0x7Fu >> length);
    for (size_t i = 1; i < length && at + i < text.size(); ++i) c = c << 6 | (static_cast<uint8_t>(text[at + i]) & 0x3F);
    out.push_back(std::min(c, kLastCharacter));
    at += length;
  }
  return out;
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
  } else if (c < 0x10000) {
    out += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
  } else {
    out += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
            static_cast<char>(0x80 | (c & 0x3F))};
  }
}

bool CharacterAutomaton::matches(std::string_view text) const {
  if (states.empty()) return false;
  int32_t at = 0;
  for (const char32_t c : characters_of(text)) {
    const auto& edges = states[static_cast<size_t>(at)].edges;
    const auto edge = std::find_if(edges.begin(), edges.end(), [&](const Edge& e) { return e.range.first <= c && c <= e.range.last; });
    if (edge == edges.end()) return false;
    at = edge->to;
  }
  return states[static_cast<size_t>(at)].final;
}

CharacterAutomaton determined(const CharacterNfa& nfa) {
  CharacterAutomaton out;
  std::map<std::vector<int32_t>, int32_t> known;
  std::vector<std::vector<int32_t>> sets;
  std::vector<uint32_t> marked(nfa.states.size(), 0);
  uint32_t mark = 0;
  int64_t work = 0;
  const auto id_of = [&](std::vector<int32_t> todo) {
    ++mark;
    std::vector<int32_t> set;
    while (!todo.empty()) {
      const int32_t state = todo.back();
      todo.pop_back();
      if (marked[static_cast<size_t>(state)] == mark) continue;
      marked[static_cast<size_t>(state)] = mark;
      const auto& s = nfa.states[static_cast<size_t>(state)];
      if (!s.edges.empty() || state == nfa.last) set.push_back(state);
      todo.insert(todo.end(), s.empty.begin(), s.empty.end());
      work += 1 + static_cast<int64_t>(s.empty.size());
    }
    std::sort(set.begin(), set.end());
    const auto [place, is_new] = known.try_emplace(set, static_cast<int32_t>(sets.size()));
    if (is_new) {
      work += static_cast<int64_t>(set.size());
      out.states.emplace_back();
      out.states.back().final = std::binary_search(set.begin(), set.end(), nfa.last);
      sets.push_back(std::move(set));
    }
    if (sets.size() > kMostStates || work > kMostCharacterWork) too_large();
    return place->second;
  };
  id_of({nfa.first});
  for (size_t at = 0; at < sets.size(); ++at) {
    std::vector<CharacterAutomaton::Edge> all;
    for (int32_t state : sets[at]) {
      const auto& edges = nfa.states[static_cast<size_t>(state)].edges;
      all.insert(all.end(), edges.begin(), edges.end());
    }
    std::vector<char32_t> cuts;
    for (const auto& edge : all) cuts.insert(cuts.end(), {edge.range.first, edge.range.last + 1});
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.range.first < b.range.first; });
    std::vector<CharacterAutomaton::Edge> edges, open;
    size_t taken = 0;
    for (size_t i = 0; i + 1 < cuts.size(); ++i) {
      while (taken < all.size() && all[taken].range.first <= cuts[i]) open.push_back(all[taken++]);
      std::erase_if(open, [&](const auto& edge) { return edge.range.last < cuts[i]; });
      work += 2 + static_cast<int64_t>(open.size());
      if (open.empty()) continue;
      std::vector<int32_t> targets;
      for (const auto& edge : open) targets.push_back(edge.to);
      add_edge(edges, {cuts[i], cuts[i + 1] - 1}, id_of(std::move(targets)));
    }
    out.states[at].edges = std::move(edges);
  }
  return trimmed(std::move(out));
}

CharacterAutomaton of_length(int64_t least, int64_t most) {
  const int64_t last = most < 0 ? least : most;
  if (last >= static_cast<int64_t>(kMostStates)) too_large();
  CharacterAutomaton out;
  for (int64_t i = 0; i <= last; ++i) {
    out.states.emplace_back();
    out.states.back().final = i >= least;
    const int64_t to = i < last ? i + 1 : most < 0 ? i : -1;
    if (to >= 0) out.states.back().edges = {{kBeforeSurrogates, static_cast<int32_t>(to)}, {kBehindSurrogates, static_cast<int32_t>(to)}};
  }
  return trimmed(std::move(out));
}

CharacterAutomaton both(const CharacterAutomaton& a, const CharacterAutomaton& b) {
  if (a.states.empty() || b.states.empty()) return {};
  CharacterAutomaton out;
  std::map<std::pair<int32_t, int32_t>, int32_t> known;
  std::vector<std::pair<int32_t, int32_t>> pairs;
  const auto id_of = [&](int32_t x, int32_t y) {
    const auto [place, is_new] = known.try_emplace({x, y}, static_cast<int32_t>(pairs.size()));
    if (is_new) {
      pairs.emplace_back(x, y);
      out.states.emplace_back();
      out.states.back().final = a.states[static_cast<size_t>(x)].final && b.states[static_cast<size_t>(y)].final;
    }
    if (pairs.size() > kMostStates) too_large();
    return place->second;
  };
  id_of(0, 0);
  for (size_t at = 0; at < pairs.size(); ++at) {
    const auto& x = a.states[static_cast<size_t>(pairs[at].first)].edges;
    const auto& y = b.states[static_cast<size_t>(pairs[at].second)].edges;
    std::vector<CharacterAutomaton::Edge> edges;
    for (size_t i = 0, j = 0; i < x.size() && j < y.size();) {
      const char32_t first = std::max(x[i].range.first, y[j].range.first), last = std::min(x[i].range.last, y[j].range.last);
      if (first <= last) add_edge(edges, {first, last}, id_of(x[i].to, y[j].to));
      x[i].range.last <= y[j].range.last ? ++i : ++j;
    }
    out.states[at].edges = std::move(edges);
  }
  return trimmed(std::move(out));
}

CharacterAutomaton either(const CharacterAutomaton& a, const CharacterAutomaton& b) {
  CharacterNfa nfa;
  nfa.states.resize(2);
  nfa.first = 0;
  nfa.last = 1;
  for (const CharacterAutomaton* each : {&a, &b}) {
    const int32_t first = static_cast<int32_t>(nfa.states.size());
    if (!each->states.empty()) nfa.states[0].empty.push_back(first);
    for (const auto& state : each->states) {
      nfa.states.push_back({{}, state.edges});
      for (auto& edge : nfa.states.back().edges) edge.to += first;
      if (state.final) nfa.states.back().empty.push_back(nfa.last);
    }
  }
  return determined(nfa);
}

CharacterAutomaton only(std::string_view text) {
  CharacterAutomaton out;
  out.states.emplace_back();
  for (const char32_t c : characters_of(text)) {
    out.states.back().edges = {{{c, c}, static_cast<int32_t>(out.states.size())}};
    out.states.emplace_back();
  }
  out.states.back().final = true;
  return out;
}

CharacterAutomaton any_but(const std::vector<std::string>& texts) {
  CharacterAutomaton out;
  out.states.resize(2);
  constexpr int32_t kOther = 1;
  std::vector<bool> is_text(2, false);
  for (const std::string& text : texts) {
    int32_t at = 0;
    for (const char32_t c : characters_of(text)) {
      auto& edges = out.states[static_cast<size_t>(at)].edges;
      const auto edge = std::find_if(edges.begin(), edges.end(), [&](const auto& e) { return e.range.first == c; });
      if (edge != edges.end()) {
        at = edge->to;
        continue;
      }
      at = static_cast<int32_t>(out.states.size());
      edges.push_back({{c, c}, at});
      out.states.emplace_back();
      is_text.push_back(false);
      if (out.states.size() > kMostStates) too_large();
    }
    is_text[static_cast<size_t>(at)] = true;
  }
  for (size_t i = 0; i < out.states.size(); ++i) {
    out.states[i].final = !is_text[i];
    add_others(out.states[i], kOther);
  }
  return trimmed(std::move(out));
}

CharacterAutomaton up_to(std::string_view marker) {
  CharacterAutomaton out = search(marker);
  out.states.back().final = true;
  return out;
}

CharacterAutomaton without(std::string_view marker) {
  CharacterAutomaton out = search(marker);
  for (auto& state : out.states) state.final = true;
  out.states.back().final = false;
  return trimmed(std::move(out));
}

Rules::Node utf8_node(Rules& rules, CharacterRange range) {
  std::vector<Rules::Node> out;
  // Parts whose characters have as many bytes, then parts whose bytes are independent of each other.
  constexpr CharacterRange kLengths[] = {{0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, kLastCharacter}};
  for (const CharacterRange whole : kLengths) {
    const char32_t first = std::max(range.first, whole.first), last = std::min(range.last, whole.last);
    if (first > last) continue;
    std::vector<CharacterRange> todo{{first, last}};
    while (!todo.empty()) {
      const CharacterRange part = todo.back();
      todo.pop_back();
      bool cut = false;
      for (int shift = 6; shift <= 18 && part.first > 0x7F && !cut; shift += 6) {
        const char32_t low = (1u << shift) - 1;
        if ((part.first & ~low) == (part.last & ~low)) break;
        if ((part.first & low) != 0)
          todo.insert(todo.end(), {{(part.first | low) + 1, part.last}, {part.first, part.first | low}}), cut = true;
        else if ((part.last & low) != low)
          todo.insert(todo.end(), {{part.last & ~low, part.last}, {part.first, (part.last & ~low) - 1}}), cut = true;
      }
      if (cut) continue;
      std::string low, high;
      append_utf8(low, part.first);
      append_utf8(high, part.last);
      std::vector<Rules::Node> bytes;
      for (size_t i = 0; i < low.size(); ++i) bytes.push_back(rules.range(static_cast<uint8_t>(low[i]), static_cast<uint8_t>(high[i])));
      out.push_back(rules.sequence(std::move(bytes)));
    }
  }
  return rules.choice(std::move(out));
}

Rules::Node utf8_graph(Rules& rules, const CharacterAutomaton& automaton) {
  return graph_of(rules, automaton, [&](CharacterRange range) { return utf8_node(rules, range); });
}

}  // namespace loraine::grammar
