// Examples, pairs, feedback, questions and prompts as one.
#include "loraine/data/examples/item.h"

namespace loraine {

namespace {

// Of the prompts' ids and of the references that their answers are judged by.
uint64_t asked_fingerprint(std::span<const AskedExample> asked) {
  uint64_t hash = 0xcbf29ce484222325ull;  // FNV-1a
  const auto mix = [&hash](std::string_view bytes) {
    for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3ull;
  };
  for (const AskedExample& one : asked) {
    const uint64_t ids = data_fingerprint(std::span(&one.prompt, 1));
    mix({reinterpret_cast<const char*>(&ids), sizeof ids});
    mix(one.reference ? "=" + *one.reference : std::string("-"));
  }
  return hash;
}

}  // namespace

Item item_of(const Dataset& set, size_t i) {
  if (!set.pairs.empty()) return {&set.pairs[i].chosen, &set.pairs[i].rejected};
  if (!set.feedback.empty()) return {&set.feedback[i].example, &set.feedback[i].kl, set.feedback[i].desirable};
  if (!set.decisions.empty()) return {&set.decisions[i].samples.front(), nullptr, false, &set.decisions[i]};
  if (!set.asked.empty()) return {&set.asked[i].prompt};
  return {&set.examples[i]};
}

uint64_t data_fingerprint(const Dataset& set) {
  if (!set.asked.empty()) return asked_fingerprint(set.asked);
  if (set.pairs.empty() && set.feedback.empty() && set.decisions.empty()) return data_fingerprint(set.examples);
  uint64_t hash = 0;
  const auto mix = [&hash](uint64_t value) {  // one round of splitmix64
    hash = (hash ^ value) * 0xbf58476d1ce4e5b9ull;
    hash ^= hash >> 31;
  };
  for (size_t i = 0; i < set.size(); ++i) {
    const Item item = item_of(set, i);
    if (item.decision) {
      mix(data_fingerprint(item.decision->samples));
      for (const std::vector<int32_t>& label : item.decision->choices->labels)
        for (const int32_t id : label) mix(static_cast<uint32_t>(id));
      mix(static_cast<uint64_t>(item.decision->label));
      continue;
    }
    for (const Example* example : {item.example, item.other}) mix(data_fingerprint(std::span(example, 1)));
    mix(item.desirable ? 1 : 0);
  }
  return hash;
}

}  // namespace loraine
