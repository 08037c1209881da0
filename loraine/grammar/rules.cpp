// See rules.h.
#include "loraine/grammar/rules.h"

namespace loraine::grammar {

namespace {
constexpr size_t kMostParts = 4'000'000;
}

std::string special_token(std::string_view spelling) { return kSpecialOpen + std::string(spelling) + kSpecialClose; }

Rules::Rules() : ranges_(256 * 256, -1) {
  put({Kind::literal});  // the empty text
  put({Kind::choice});   // of nothing
}

Rules::Node Rules::put(Part part) {
  if (parts_.size() >= kMostParts)
    throw GrammarError("grammar_too_large", "", "the grammar has more than 4 million parts; make it smaller");
  parts_.push_back(std::move(part));
  return static_cast<Node>(parts_.size() - 1);
}

Rules::Node Rules::literal(std::string_view bytes) {
  if (bytes.empty()) return nothing();
  Part part{Kind::literal};
  part.bytes = bytes;
  return put(std::move(part));
}

Rules::Node Rules::range(uint8_t first, uint8_t last) {
  if (first > last) return never();
  Node& known = ranges_[first * 256u + last];
  if (known < 0) known = put({Kind::range, first, last});
  return known;
}

Rules::Node Rules::sequence(std::vector<Node> parts) {
  std::erase(parts, nothing());
  for (Node node : parts)
    if (node == never()) return never();
  if (parts.empty()) return nothing();
  if (parts.size() == 1) return parts[0];
  Part part{Kind::sequence};
  part.parts = std::move(parts);
  return put(std::move(part));
}

Rules::Node Rules::choice(std::vector<Node> alternatives) {
  std::erase(alternatives, never());
  if (alternatives.empty()) return never();
  if (alternatives.size() == 1) return alternatives[0];
  Part part{Kind::choice};
  part.parts = std::move(alternatives);
  return put(std::move(part));
}

Rules::Node Rules::repeat(Node repeated, int64_t least, int64_t most) {
  if (most == 0 || repeated == nothing()) return nothing();
  if (least == 1 && most == 1) return repeated;
  Part part{Kind::repeat};
  part.least = least;
  part.most = most;
  part.parts = {repeated};
  return put(std::move(part));
}

Rules::Node Rules::call(Rule rule) {
  Part part{Kind::call};
  part.rule = rule;
  return put(std::move(part));
}

Rules::Node Rules::graph(int32_t states, std::vector<Edge> edges, std::vector<int32_t> finals) {
  Part part{Kind::graph};
  part.states = states;
  part.edges = std::move(edges);
  part.finals = std::move(finals);
  return put(std::move(part));
}

Rules::Rule Rules::add(std::string name) {
  rules_.push_back({std::move(name)});
  return static_cast<Rule>(rules_.size() - 1);
}

void Rules::define(Rule rule, Node body) { rules_[static_cast<size_t>(rule)].body = body; }

Rules::Rule Rules::add(std::string name, Node body) {
  const Rule rule = add(std::move(name));
  define(rule, body);
  return rule;
}

Rules::Rule Rules::counted(std::string name, Rule body, int64_t least, int64_t most) {
  const Rule rule = add(std::move(name));
  Definition& definition = rules_[static_cast<size_t>(rule)];
  definition.counted = body;
  definition.least = least;
  definition.most = most;
  return rule;
}

}  // namespace loraine::grammar
