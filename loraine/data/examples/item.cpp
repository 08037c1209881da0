// Examples, pairs and feedback as one.
#include "loraine/data/examples/item.h"

namespace loraine {

Item item_of(const Dataset& set, size_t i) {
  if (!set.pairs.empty()) return {&set.pairs[i].chosen, &set.pairs[i].rejected};
  if (!set.feedback.empty()) return {&set.feedback[i].example, &set.feedback[i].kl, set.feedback[i].desirable};
  return {&set.examples[i]};
}

uint64_t data_fingerprint(const Dataset& set) {
  if (set.pairs.empty() && set.feedback.empty()) return data_fingerprint(set.examples);
  uint64_t hash = 0;
  const auto mix = [&hash](uint64_t value) {  // one round of splitmix64
    hash = (hash ^ value) * 0xbf58476d1ce4e5b9ull;
    hash ^= hash >> 31;
  };
  for (size_t i = 0; i < set.size(); ++i) {
    const Item item = item_of(set, i);
    for (const Example* example : {item.example, item.other}) mix(data_fingerprint(std::span(example, 1)));
    mix(item.desirable ? 1 : 0);
  }
  return hash;
}

}  // namespace loraine
