// Folders of encoded sets: what datasets wrote (tests/golden/make_arrow_cases.py), and what is written here read back.
#include "loraine/data/examples/prepared.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"

namespace loraine::prepared_test {
namespace {

namespace fs = std::filesystem;

struct Place {
  fs::path path = fs::temp_directory_path() / ("loraine_prepared_" + std::to_string(::getpid()));
  Place() { fs::remove_all(path); }
  ~Place() { fs::remove_all(path); }
};

const SpecialTokens kSpecial{.eos = 2, .pad = 0};

Encoder encoder_of(int64_t vocab_size = 0) {
  Encoder encoder;
  encoder.special = &kSpecial;
  encoder.vocab_size = vocab_size;
  return encoder;
}

ExampleStore& store() {
  static ExampleStore store{{}};
  return store;
}

bool same(const Example& a, const Example& b) {
  return a.input_ids == b.input_ids && a.labels == b.labels && a.starts == b.starts && a.padding == b.padding && a.sees_all == b.sees_all;
}

TEST(Prepared, FoldersOfDatasets) {
  const std::string folder = (fs::path(LORAINE_SOURCE_DIR) / "tests/golden/arrow/prepared").string();
  ASSERT_TRUE(is_prepared(folder));
  const DataSplit data = read_prepared(folder, DataStage::sft, encoder_of(), store());
  ASSERT_EQ(data.train.examples.size(), 2u);
  EXPECT_TRUE(same(data.train.examples[0], {{5, 6, 7}, {-100, 6, 7}}));
  EXPECT_TRUE(same(data.train.examples[1], {{8, 9}, {-100, 9}}));
  EXPECT_EQ(data.train.num_trained, 3);
  ASSERT_EQ(data.evals.size(), 1u);
  EXPECT_EQ(data.evals[0].name, "b");
  ASSERT_EQ(data.evals[0].set.examples.size(), 1u);
  EXPECT_TRUE(same(data.evals[0].set.examples[0], {{5, 6, 7, 8, 9, 0, 0, 0}, {-100, 6, 7, -100, 9, -100, -100, -100}, {0, 3}, 3, false}));
  EXPECT_EQ(data.evals[0].set.num_samples, 2);
  EXPECT_THROW(read_prepared(folder, DataStage::pairs, encoder_of(), store()), Error);
  EXPECT_THROW(read_prepared(folder, DataStage::sft, encoder_of(9), store()), Error);  // id 9 has no row
  EXPECT_NO_THROW(read_prepared(folder, DataStage::sft, encoder_of(10), store()));
}

DataSplit back(DataStage stage, const DataSplit& data) {
  Place place;
  const std::string folder = (place.path / "deep").string();
  EXPECT_FALSE(is_prepared(folder));
  write_prepared(folder, stage, data);
  EXPECT_TRUE(is_prepared(folder));
  return read_prepared(folder, stage, encoder_of(), store());
}

TEST(Prepared, EveryStageComesBack) {
  const Example a{{5, 6, 7}, {-100, 6, 7}}, b{{8, 9}, {-100, 9}};
  DataSplit data;
  data.train.examples = {a, b};
  data.eval.examples = {b};
  DataSplit read = back(DataStage::sft, data);
  ASSERT_EQ(read.train.examples.size(), 2u);
  EXPECT_TRUE(same(read.train.examples[0], a) && same(read.train.examples[1], b) && same(read.eval.examples.at(0), b));

  for (const bool sees_all : {true, false}) {
    data.train.examples = {{{5, 6, 8, 9, 3, 0}, {-100, 6, -100, 9, 3, -100}, {0, 2}, 1, sees_all},
                           {{5, 6, 0, 0, 0, 0}, {5, 6, -100, -100, -100, -100}, {0}, 4, sees_all}};
    read = back(DataStage::sft, data);
    ASSERT_EQ(read.train.examples.size(), 2u);
    for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(same(read.train.examples[i], data.train.examples[i])) << i << sees_all;
    EXPECT_EQ(read.train.num_samples, 3);
  }

  DataSplit texts;
  texts.train.examples = {{{5, 0, 7}, {5, -100, 7}}};
  EXPECT_TRUE(same(back(DataStage::pretraining, texts).train.examples.at(0), texts.train.examples[0]));  // the pad token is not trained

  DataSplit pairs;
  pairs.train.pairs = {{a, b}};
  read = back(DataStage::pairs, pairs);
  EXPECT_TRUE(same(read.train.pairs.at(0).chosen, a) && same(read.train.pairs[0].rejected, b));

  DataSplit feedback;
  feedback.train.feedback = {{a, b, true}, {b, a, false}};
  read = back(DataStage::feedback, feedback);
  ASSERT_EQ(read.train.feedback.size(), 2u);
  EXPECT_TRUE(read.train.feedback[0].desirable && !read.train.feedback[1].desirable);
  EXPECT_TRUE(same(read.train.feedback[0].kl, b) && same(read.train.feedback[1].example, b));
}

TEST(Prepared, FoldersThatAreNone) {
  Place place;
  fs::create_directories(place.path);
  EXPECT_FALSE(is_prepared(place.path.string()));  // empty: it is written to
  std::ofstream(place.path / "notes.txt") << "mine";
  EXPECT_THROW(is_prepared(place.path.string()), Error);
  std::ofstream(place.path / "dataset_dict.json") << R"({"splits": ["../train"]})";
  EXPECT_THROW(read_prepared(place.path.string(), DataStage::sft, encoder_of(), store()), Error);
  std::ofstream(place.path / "dataset_dict.json") << R"({"splits": ["train"]})";
  EXPECT_THROW(read_prepared(place.path.string(), DataStage::sft, encoder_of(), store()), Error);
  fs::create_directories(place.path / "train");
  std::ofstream(place.path / "train/state.json") << R"({"_data_files": [{"filename": "../../x.arrow"}]})";
  EXPECT_THROW(read_prepared(place.path.string(), DataStage::sft, encoder_of(), store()), Error);
}

}  // namespace
}  // namespace loraine::prepared_test
