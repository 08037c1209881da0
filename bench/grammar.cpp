// bench_grammar TOKENIZER_JSON [SCHEMA_FILE]: what a grammar costs with a real vocabulary: compiling, a mask that is made, one that is
// kept. With --sample N instead of times: reads one schema a line from stdin, and writes N texts a schema, one JSON string a line, each
// token drawn evenly from the mask; tools/judge_grammar.py has them judged.
#include "loraine/grammar/grammar.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>

#include "loraine/grammar/json_schema.h"
#include "loraine/text/tokenizer/tokenizer.h"

using namespace loraine;
using namespace loraine::grammar;

// Processor time of this thread, so that other work on the machine does not count.
struct Clock {
  using time_point = double;
  static double now() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e3 + static_cast<double>(t.tv_nsec) * 1e-6;
  }
};

namespace {

double ms_since(double start) { return Clock::now() - start; }

std::string text_of(const char* file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

double at_share(std::vector<double> times, double share) {
  std::sort(times.begin(), times.end());
  return times.empty() ? 0 : times[std::min(times.size() - 1, static_cast<size_t>(share * static_cast<double>(times.size())))];
}

constexpr const char* kSchema = R"({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0,
  "maximum": 150}, "email": {"type": "string", "format": "email"}, "tags": {"type": "array", "items": {"type": "string", "maxLength": 20},
  "maxItems": 8}, "address": {"type": "object", "properties": {"street": {"type": "string"}, "zip": {"type": "string", "pattern":
  "[0-9]{5}"}, "country": {"enum": ["de", "fr", "it"]}}, "required": ["street", "country"]}, "extra": {}}, "required": ["name", "age", "extra"]})";

int32_t draw(std::span<const uint64_t> bits, std::mt19937_64& random, bool likes_ends, const Vocabulary& vocabulary) {
  std::vector<int32_t> ids;
  for (size_t word = 0; word < bits.size(); ++word)
    for (uint64_t rest = bits[word]; rest; rest &= rest - 1) ids.push_back(static_cast<int32_t>(word * 64) + __builtin_ctzll(rest));
  if (ids.empty()) return -1;
  if (likes_ends)
    for (const int32_t id : ids)
      if (vocabulary.is_end(id)) return id;
  // mostly short ones, so that texts come to an end
  int32_t best = ids[random() % ids.size()];
  for (int i = 0; i < 3; ++i) {
    const int32_t other = ids[random() % ids.size()];
    if (vocabulary.bytes(other).size() < vocabulary.bytes(best).size()) best = other;
  }
  return best;
}

void sample(const std::shared_ptr<const Vocabulary>& vocabulary, int count) {
  std::mt19937_64 random(1);
  std::vector<uint64_t> bits(vocabulary->words());
  for (std::string line; std::getline(std::cin, line);) {
    std::shared_ptr<TokenGrammar> masks;
    try {
      masks = std::make_shared<TokenGrammar>(json_schema(line), vocabulary);
    } catch (const GrammarError& error) {
      std::cout << fmt::format("{{\"error\": {}}}\n", Json(error.code + " " + error.what()).dump());
      continue;
    }
    Json texts = Json::array();
    for (int i = 0; i < count; ++i) {
      GrammarState state(masks);
      std::string text;
      for (int step = 0;; ++step) {
        state.fill(bits);
        const int32_t id = draw(bits, random, step > 20, *vocabulary);
        if (id < 0 || !state.accept(id)) throw Error(ErrorKind::internal, "an allowed token was not accepted");
        if (vocabulary->is_end(id) || step > 400) break;
        text += vocabulary->bytes(id);
      }
      if (state.complete()) texts.push_back(text);
    }
    std::cout << texts.dump() << "\n";
  }
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) return std::cerr << "usage: bench_grammar TOKENIZER_JSON [SCHEMA_FILE | --sample N]\n", 2;
  const auto tokenizer = Tokenizer::from_json(text_of(argv[1]), argv[1]);
  auto start = Clock::now();
  const auto tokens = vocabulary_tokens(*tokenizer);
  std::vector<int32_t> ends;
  for (const char* end : {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "</s>", "<end_of_turn>"})
    if (const auto id = tokenizer->token_to_id(end)) ends.push_back(*id);
  const auto vocabulary = std::make_shared<const Vocabulary>(tokens, ends, tokenizer->drops_first_space());
  const double vocabulary_ms = ms_since(start);
  if (argc > 3 && std::strcmp(argv[2], "--sample") == 0) return sample(vocabulary, std::stoi(argv[3])), 0;
  const std::string schema = argc > 2 ? text_of(argv[2]) : kSchema;
  fmt::print("vocabulary: {} tokens, {} nodes, made in {:.0f} ms\n", vocabulary->size(), vocabulary->nodes().size(), vocabulary_ms);
  start = Clock::now();
  const auto automaton = json_schema(schema);
  fmt::print("grammar: {} states, compiled in {:.2f} ms\n", automaton->states.size(), ms_since(start));
  const auto masks = std::make_shared<TokenGrammar>(automaton, vocabulary);
  std::mt19937_64 random(1);
  std::vector<uint64_t> bits(vocabulary->words());
  std::vector<double> made, kept, taken;
  int64_t steps = 0;
  for (int text = 0; text < 12; ++text) {
    GrammarState state(masks);
    for (int step = 0; step < 80; ++step, ++steps) {
      const int64_t before = masks->counts().made;
      start = Clock::now();
      state.fill(bits);
      (masks->counts().made > before ? made : kept).push_back(ms_since(start) * 1000);
      const int32_t id = draw(bits, random, step > 30, *vocabulary);
      start = Clock::now();
      if (!state.accept(id)) throw Error(ErrorKind::internal, "an allowed token was not accepted");
      taken.push_back(ms_since(start) * 1000);
      if (vocabulary->is_end(id)) break;
    }
  }
  const auto counts = masks->counts();
  fmt::print("steps: {}, made new {} ({:.1f} %), kept {:.1f} MB\n", steps, made.size(),
             100.0 * static_cast<double>(made.size()) / static_cast<double>(steps), static_cast<double>(counts.bytes) / 1e6);
  fmt::print("a mask made: median {:.0f} µs, 99 % {:.0f} µs, worst {:.0f} µs\n", at_share(made, 0.5), at_share(made, 0.99),
             at_share(made, 1));
  fmt::print("a mask kept: median {:.1f} µs, 99 % {:.1f} µs, worst {:.0f} µs\n", at_share(kept, 0.5), at_share(kept, 0.99),
             at_share(kept, 1));
  fmt::print("a token accepted: median {:.1f} µs, 99 % {:.1f} µs\n", at_share(taken, 0.5), at_share(taken, 0.99));
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
