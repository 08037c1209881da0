// Streamed rows in the orders that datasets gives (tests/golden/make_stream_orders.py), encoded, kept from evaluation, and gone on with.
#include "loraine/data/order/stream.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"

namespace loraine::stream_test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

class ByteTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text, bool, bool) const override { return {text.begin(), text.end()}; }
  std::string guard(std::string_view part) const override { return std::string(part); }
  std::vector<int32_t> encode_guarded(std::string_view text) const override { return encode(text, false, true); }
  std::string decode(std::span<const int32_t> ids, bool) const override { return {ids.begin(), ids.end()}; }
  std::optional<int32_t> token_to_id(std::string_view) const override { return std::nullopt; }
  std::optional<std::string> id_to_token(int32_t) const override { return std::nullopt; }
  int64_t vocab_size() const override { return 300; }
  bool is_special(int32_t) const override { return false; }
  int32_t add_token(const std::string&, bool) override { return 299; }
};

struct Sets {
  fs::path path = fs::temp_directory_path() / ("loraine_stream_" + std::to_string(::getpid()));
  ByteTokenizer tokenizer;
  SpecialTokens special;
  DataOptions options;

  explicit Sets(const std::vector<int>& sizes) {
    fs::remove_all(path);
    fs::create_directories(path);
    Json info = Json::object();
    for (size_t set = 0; set < sizes.size(); ++set) {
      const std::string name = "d" + std::to_string(set);
      std::ofstream file(path / (name + ".jsonl"));
      for (int row = 0; row < sizes[set]; ++row)
        file << Json{{"instruction", std::to_string(100 * set + static_cast<size_t>(row))}, {"output", "."}}.dump() << "\n";
      info[name] = {{"file_name", name + ".jsonl"}};
      options.datasets.push_back(name);
    }
    std::ofstream(path / "dataset_info.json") << info.dump();
    options.dataset_dir = path.string();
    options.template_name = "empty";
    options.streaming = true;
  }
  ~Sets() { fs::remove_all(path); }
  StreamedData open() { return open_stream(options, &tokenizer, nullptr, special); }
};

int number_of(const Example& example) { return std::stoi(std::string(example.input_ids.begin(), example.input_ids.end())); }

std::vector<int> rest_of(ExampleStream& stream) {
  std::vector<int> rows;
  while (const auto example = stream.next()) rows.push_back(number_of(*example));
  return rows;
}

TEST(Stream, RecordedOrders) {
  std::ifstream in(fs::path(LORAINE_SOURCE_DIR) / "tests/golden/stream_orders.json");
  const Json cases = Json::parse(in);
  ASSERT_EQ(cases.size(), 108u);
  for (const Json& c : cases) {
    Sets sets(c["sizes"].get<std::vector<int>>());
    sets.options.shards = c["shards"];
    sets.options.buffer_size = c["buffer"];
    sets.options.seed = c["seed"];
    sets.options.preprocessing_batch_size = 3;
    sets.options.mixing = c["mixing"] == "concat"             ? Mixing::concat
                          : c["mixing"] == "interleave_under" ? Mixing::interleave_under
                                                              : Mixing::interleave_over;
    if (!c["probs"].is_null()) sets.options.interleave_probs = c["probs"].get<std::vector<double>>();
    const StreamedData data = sets.open();
    for (size_t epoch = 0; epoch < 3; ++epoch) {
      data.train->start_epoch(static_cast<int64_t>(epoch));
      EXPECT_EQ(rest_of(*data.train), c["epochs"][epoch].get<std::vector<int>>())
          << c["sizes"] << c["mixing"] << c["shards"] << c["buffer"] << epoch;
    }
  }
}

TEST(Stream, EveryRowOnce) {
  Sets sets({5, 2});
  sets.options.mixing = Mixing::interleave_once;
  sets.options.buffer_size = 1;
  EXPECT_EQ(rest_of(*sets.open().train), (std::vector<int>{0, 100, 1, 101, 2, 3, 4}));
}

TEST(Stream, EvaluationTakesTheFirstRows) {  // datasets: m.take(2) and m.skip(2) of epochs 0 and 1
  Sets sets({7, 3});
  sets.options.buffer_size = 4;
  sets.options.seed = 11;
  sets.options.val_size = 2;
  const StreamedData data = sets.open();
  ASSERT_EQ(data.rest.eval.examples.size(), 2u);
  EXPECT_EQ(number_of(data.rest.eval.examples[0]), 100);
  EXPECT_EQ(number_of(data.rest.eval.examples[1]), 1);
  EXPECT_EQ(rest_of(*data.train), (std::vector<int>{0, 101, 102, 5, 2, 6, 3, 4}));
  data.train->start_epoch(1);
  EXPECT_EQ(rest_of(*data.train), (std::vector<int>{4, 6, 1, 2, 101, 102, 5, 100}));
}

TEST(Stream, GoesOnWhereItWas) {
  Sets sets({600, 300});
  sets.options.buffer_size = 50;
  const StreamedData data = sets.open();
  data.train->start_epoch(2);
  const std::vector<int> all = rest_of(*data.train);
  ASSERT_EQ(all.size(), 900u);
  data.train->start_epoch(2);
  EXPECT_TRUE(data.train->skip(450));
  EXPECT_EQ(rest_of(*data.train), std::vector<int>(all.begin() + 450, all.end()));
  data.train->start_epoch(2);
  EXPECT_FALSE(data.train->skip(901));
}

TEST(Stream, PacksBatchesOfTheShuffledRows) {
  Sets sets({8});
  sets.options.neat_packing = true;
  sets.options.cutoff_len = 7;  // three samples of two bytes
  sets.options.preprocessing_batch_size = 4;
  const StreamedData data = sets.open();
  std::vector<size_t> samples;
  while (const auto example = data.train->next()) samples.push_back(example->starts.size());
  EXPECT_EQ(samples, (std::vector<size_t>{3, 1, 3, 1}));
  EXPECT_EQ(data.train->counts().num_samples, 8);
}

TEST(Stream, BadRowsAndSettings) {
  Sets sets({4});
  std::ofstream(sets.path / "d0.jsonl", std::ios::app) << "{\"instruction\": 7}\n";
  {
    const StreamedData data = sets.open();
    EXPECT_THROW(rest_of(*data.train), Error);
  }
  sets.options.skip_bad_rows = 1;
  {
    const StreamedData data = sets.open();
    EXPECT_EQ(rest_of(*data.train).size(), 4u);
    EXPECT_EQ(data.train->counts().num_dropped, 1);
  }
  const auto refused = [&](const std::function<void(DataOptions&)>& change) {
    DataOptions options = sets.options;
    change(options);
    EXPECT_THROW(open_stream(options, &sets.tokenizer, nullptr, sets.special), Error);
  };
  refused([](DataOptions& o) { o.val_size = 0.5; });
  refused([](DataOptions& o) { o.max_samples = 3; });
  refused([](DataOptions& o) { o.shards = 9; });
  refused([](DataOptions& o) { o.stage = DataStage::pairs; });
  refused([](DataOptions& o) { o.interleave_probs = {1}; });
}

}  // namespace
}  // namespace loraine::stream_test
