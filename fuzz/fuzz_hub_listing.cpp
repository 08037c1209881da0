// Bytes as a hub's answer: a listing of Hugging Face, of ModelScope, or a kept one, and what is chosen of it. See ./dev fuzz.
#include <nlohmann/json.hpp>

#include "fuzz/input_folder.h"
#include "loraine/io/hub/listing.h"
#include "loraine/io/hub/selection.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const InputFolder folder;
  const auto choose = [](const Listing& listing) {
    for (const HubKind kind : {HubKind::model, HubKind::adapter, HubKind::dataset})
      expect_value_or_refusal([&] {
        for (const std::string& path : select_files(listing, kind, "", "org/name").files)
          if (!is_safe_path(path)) __builtin_trap();
      });
  };
  const nlohmann::json json = nlohmann::json::parse(data, data + size, nullptr, false);
  if (!json.is_discarded()) {
    expect_value_or_refusal([&] { choose(parse_listing(json, "the listing")); });
    size_t entries = 0;
    expect_value_or_refusal([&] { choose(parse_modelscope_listing(json, "master", "the listing", entries)); });
  }
  std::filesystem::create_directories(folder.path() + "/trees");
  folder.write("trees/abc.json", data, size);
  if (const auto listing = read_kept_listing(folder.path(), "abc")) choose(*listing);
  folder.write("index.json", data, size);
  expect_value_or_refusal([&] { shards_of(folder.path() + "/index.json", "index.json"); });
  return 0;
}
