// Which files of a repository are taken.
#include "loraine/io/hub/selection.h"

#include <gtest/gtest.h>

#include "loraine/core/error.h"

namespace loraine::selection_test {
namespace {

Listing listing_of(const std::vector<std::string>& names) {
  Listing listing{"abc", {}};
  for (const std::string& name : names) listing.files.push_back({name, 1, "", ""});
  return listing;
}

bool takes(const Selection& selection, const std::string& name) {
  return std::find(selection.files.begin(), selection.files.end(), name) != selection.files.end();
}

std::string weights(std::vector<std::string> names) {
  names.push_back("config.json");
  const Selection selection = select_files(listing_of(names), HubKind::model, "", "org/name");
  EXPECT_EQ(selection.index.empty() ? "" : selection.index, selection.files.back().ends_with(".index.json") ? selection.files.back() : "");
  return selection.files.back();
}

TEST(HubSelection, SafetensorsBeforeBin) {
  EXPECT_EQ(weights({"pytorch_model.bin", "model.safetensors", "model.safetensors.index.json"}), "model.safetensors");
  EXPECT_EQ(weights({"pytorch_model.bin", "model.safetensors.index.json"}), "model.safetensors.index.json");
  EXPECT_EQ(weights({"pytorch_model.bin", "pytorch_model.bin.index.json", "flax_model.msgpack"}), "pytorch_model.bin");
  EXPECT_EQ(weights({"pytorch_model.bin.index.json"}), "pytorch_model.bin.index.json");
  EXPECT_THROW(weights({"tf_model.h5"}), Error);
}

TEST(HubSelection, WhatStandsBeside) {
  const Selection selection = select_files(
      listing_of({"config.json", "model.safetensors", "tokenizer.json", "vocab.json", "LICENSE.txt", "USE_POLICY.md", "README.md",
                  "a/LICENSE", "x.py", "additional_chat_templates/rag.jinja", "consolidated.safetensors", "model.gguf"}),
      HubKind::model, "", "org/name");
  for (const char* name : {"config.json", "tokenizer.json", "vocab.json", "LICENSE.txt", "USE_POLICY.md",
                           "additional_chat_templates/rag.jinja", "model.safetensors"})
    EXPECT_TRUE(takes(selection, name)) << name;
  EXPECT_EQ(selection.files.size(), 7u);
  EXPECT_NE(std::find(selection.absent.begin(), selection.absent.end(), "merges.txt"), selection.absent.end());
}

TEST(HubSelection, OtherRepositories) {
  EXPECT_EQ(select_files(listing_of({"adapter_config.json", "adapter_model.safetensors"}), HubKind::model, "", "x").files.size(), 1u);
  EXPECT_EQ(select_files(listing_of({"a.gguf", "README.md"}), HubKind::model, "", "x").files, std::vector<std::string>{"a.gguf"});
  EXPECT_THROW(select_files(listing_of({"a.gguf", "b.gguf"}), HubKind::model, "", "x"), Error);
  EXPECT_THROW(select_files(listing_of({"model.safetensors"}), HubKind::adapter, "", "x"), Error);
  EXPECT_THROW(select_files(listing_of({"adapter_config.json"}), HubKind::adapter, "", "x"), Error);
  const Selection adapter = select_files(listing_of({"s/adapter_config.json", "s/adapter_model.bin", "s/tokenizer.json", "tokenizer.json"}),
                                         HubKind::adapter, "s", "x");
  EXPECT_EQ(adapter.files, (std::vector<std::string>{"s/adapter_config.json", "s/tokenizer.json", "s/adapter_model.bin"}));
  const Selection data = select_files(listing_of({"a/b/train.JSONL.gz", "x.parquet", "t.csv.zst", "README.md", "loader.py", "p.png"}),
                                      HubKind::dataset, "", "x");
  EXPECT_EQ(data.files, (std::vector<std::string>{"a/b/train.JSONL.gz", "x.parquet", "t.csv.zst", "README.md"}));
  EXPECT_THROW(select_files(listing_of({"README.md", "loader.py"}), HubKind::dataset, "", "x"), Error);
}

}  // namespace
}  // namespace loraine::selection_test
