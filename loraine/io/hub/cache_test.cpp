// Caches laid out as huggingface_hub and modelscope lay them out, whole and with holes.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/hub/hub.h"

namespace loraine::cache_test {
namespace {

namespace fs = std::filesystem;

const char* const kVariables[] = {"HF_HUB_CACHE",     "HUGGINGFACE_HUB_CACHE", "HF_HOME",        "XDG_CACHE_HOME",
                                  "MODELSCOPE_CACHE", "USE_MODELSCOPE_HUB",    "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"};

class HubCache : public testing::Test {
 protected:
  fs::path root;
  std::string home;
  void SetUp() override {
    char name[] = "/tmp/loraine_hub_XXXXXX";
    root = mkdtemp(name);
    home = std::getenv("HOME") ? std::getenv("HOME") : "";
    setenv("HOME", root.c_str(), 1);
    for (const char* variable : kVariables) unsetenv(variable);
    setenv("HF_HUB_OFFLINE", "1", 1);
  }
  void TearDown() override {
    for (const char* variable : kVariables) unsetenv(variable);
    setenv("HOME", home.c_str(), 1);
    fs::remove_all(root);
  }

  static HubAccess at(const std::string& revision) {
    HubAccess access;
    access.revision = revision;
    return access;
  }
  static void write(const fs::path& path, const std::string& text) {
    fs::create_directories(path.parent_path());
    write_file(path.string(), text);
  }
  // A repository with a snapshot whose files are links into blobs.
  fs::path snapshot(const fs::path& hub, const std::string& repository, const std::string& commit,
                    const std::vector<std::string>& files) const {
    const fs::path folder = hub / repository / "snapshots" / commit;
    fs::create_directories(folder);
    for (const std::string& file : files) {
      write(hub / repository / "blobs" / (commit + file), "{}");
      fs::create_symlink(fs::path("../../blobs") / (commit + file), folder / file);
    }
    return folder;
  }
  static std::string refusal(const std::string& name, const std::string& revision = "main", HubKind kind = HubKind::model) {
    try {
      return "found " + find_place(name, at(revision), kind).path;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind, ErrorKind::bad_data);
      return e.what() + (" | " + e.hint);
    }
  }
  static void has(const std::string& text, std::initializer_list<std::string> parts) {
    for (const std::string& part : parts) EXPECT_NE(text.find(part), std::string::npos) << text << "\nlacks " << part;
  }
};

TEST_F(HubCache, PathsStay) {
  const FoundPlace found = find_place(root.string(), at("main"), HubKind::model);
  EXPECT_EQ(found.path, root.string());
  EXPECT_EQ(found.note, "");
}

TEST_F(HubCache, HuggingFace) {
  const fs::path hub = root / ".cache/huggingface/hub", repository = hub / "models--org--small.model";
  const fs::path folder = snapshot(hub, "models--org--small.model", "abc123", {"config.json", "model.safetensors"});
  write(repository / "refs/main", "abc123\n");
  const FoundPlace found = find_place("org/small.model", at("main"), HubKind::model);
  EXPECT_EQ(found.path, folder.string());
  EXPECT_EQ(found.note, "org/small.model: " + folder.string() + " in the local cache, revision abc123");
  // A branch, a tag, a commit.
  const fs::path other = snapshot(hub, "models--org--small.model", "def456", {"config.json", "model.safetensors"});
  write(repository / "refs/pr/1", "def456");
  EXPECT_EQ(find_place("org/small.model", at("pr/1"), HubKind::model).path, other.string());
  EXPECT_EQ(find_place("org/small.model", at("def456"), HubKind::model).path, other.string());
  has(refusal("org/small.model", "v2"), {"has no revision v2", "it has abc123, def456", "--revision v2"});
  has(refusal("org/small.model", "../../x"), {"no such id"});
  write(repository / "refs/main", "../../../..");
  has(refusal("org/small.model"), {"has no revision main"});
  // A name without an organisation.
  const fs::path old = snapshot(hub, "models--gpt2", "1", {"config.json", "pytorch_model.bin"});
  write(hub / "models--gpt2/refs/main", "1");
  EXPECT_EQ(find_place("gpt2", at("main"), HubKind::model).path, old.string());
}

TEST_F(HubCache, WhichRootCounts) {
  // The later ones of the list are nearer; the first variable that is set decides.
  const std::pair<const char*, std::string> places[] = {
      {"XDG_CACHE_HOME", "huggingface/hub"}, {"HF_HOME", "hub"}, {"HUGGINGFACE_HUB_CACHE", ""}, {"HF_HUB_CACHE", ""}};
  for (const auto& [variable, below] : places) {
    const fs::path top = root / variable, hub = below.empty() ? top : top / below;
    const fs::path folder = snapshot(hub, "models--org--m", variable, {"config.json", "model.safetensors"});
    write(hub / "models--org--m/refs/main", variable);
    setenv(variable, top.c_str(), 1);
    EXPECT_EQ(find_place("org/m", at("main"), HubKind::model).path, folder.string());
  }
}

TEST_F(HubCache, Incomplete) {
  const fs::path hub = root / "hub";
  setenv("HF_HUB_CACHE", hub.c_str(), 1);
  const fs::path folder = snapshot(hub, "models--org--m", "c", {"config.json"});
  write(hub / "models--org--m/refs/main", "c");
  has(refusal("org/m"), {"is incomplete; missing: model.safetensors", "hf download org/m"});
  write(folder / "model.safetensors.index.json", R"({"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "2.safetensors"}})");
  write(folder / "1.safetensors", "");
  has(refusal("org/m"), {"missing: 2.safetensors |"});
  write(folder / "2.safetensors", "");
  EXPECT_EQ(find_place("org/m", at("main"), HubKind::model).path, folder.string());
  fs::create_symlink("../../blobs/nowhere", folder / "tokenizer.json");
  has(refusal("org/m"), {"missing: tokenizer.json |"});
  fs::remove(folder / "config.json");
  has(refusal("org/m"), {"missing: config.json, tokenizer.json |"});
}

TEST_F(HubCache, GgufRepositories) {
  setenv("HF_HUB_CACHE", root.c_str(), 1);
  const fs::path folder = snapshot(root, "models--org--g", "c", {"m-q4.gguf"});
  write(root / "models--org--g/refs/main", "c");
  EXPECT_EQ(find_place("org/g", at("main"), HubKind::model).path, (folder / "m-q4.gguf").string());
  write(folder / "m-q8.gguf", "");
  has(refusal("org/g"), {"holds 2 GGUF files: m-q4.gguf, m-q8.gguf", "give the path of one"});
}

TEST_F(HubCache, Adapters) {
  setenv("HF_HUB_CACHE", root.c_str(), 1);
  const fs::path folder = snapshot(root, "models--org--a", "c", {"adapter_config.json", "adapter_model.safetensors"});
  write(root / "models--org--a/refs/main", "c");
  EXPECT_EQ(find_place("org/a", at("main"), HubKind::adapter).path, folder.string());
  EXPECT_EQ(find_place("org/a", at("main"), HubKind::model).path, folder.string());  // to be refused as an adapter
  fs::remove(folder / "adapter_model.safetensors");
  has(refusal("org/a", "main", HubKind::adapter), {"missing: adapter_model.safetensors"});
}

TEST_F(HubCache, ModelScope) {
  const auto model = [&](const fs::path& folder) {
    write(folder / "config.json", "{}");
    write(folder / "model.safetensors", "");
    return folder.string();
  };
  const fs::path top = root / ".cache/modelscope";
  const std::string flat = model(top / "hub/org/m-1___5");
  EXPECT_EQ(find_place("org/m-1.5", at("main"), HubKind::model).path, flat);
  const std::string below = model(top / "hub/models/org/m-1___5");
  EXPECT_EQ(find_place("org/m-1.5", at("main"), HubKind::model).path, below);
  const std::string now = model(top / "models/org/m-1___5");
  EXPECT_EQ(find_place("org/m-1.5", at("main"), HubKind::model).path, now);
  const std::string hub_like = model(top / "models/org--m-1.5/snapshots/master");
  const FoundPlace found = find_place("org/m-1.5", at("main"), HubKind::model);
  EXPECT_EQ(found.path, hub_like);
  EXPECT_NE(found.note.find("revision master"), std::string::npos) << found.note;
  // Which of the two hubs comes first.
  const fs::path hub = root / ".cache/huggingface/hub",
                 other = snapshot(hub, "models--org--m-1.5", "c", {"config.json", "model.safetensors"});
  write(hub / "models--org--m-1.5/refs/main", "c");
  EXPECT_EQ(find_place("org/m-1.5", at("main"), HubKind::model).path, other.string());
  setenv("USE_MODELSCOPE_HUB", "1", 1);
  EXPECT_EQ(find_place("org/m-1.5", at("main"), HubKind::model).path, hub_like);
  setenv("MODELSCOPE_CACHE", (root / "elsewhere").c_str(), 1);
  EXPECT_EQ(find_place("org/m-1.5", at("main"), HubKind::model).path, other.string());
}

TEST_F(HubCache, NotThere) {
  has(refusal("org/none"),
      {"org/none: no such model folder or file, and no such id in the local caches " + (root / ".cache/huggingface/hub").string(),
       (root / ".cache/modelscope").string(), "hf download org/none", "--local-dir"});
  has(refusal("org/none", "v1"), {"hf download org/none --revision v1"});
  has(refusal("org/none", "main", HubKind::adapter), {"no such adapter folder"});
  for (const char* path : {"/no/where", "./none", "a/b/c", "../x", "org/..", "-a/b", "model.gguf", "folder/rows.jsonl"})
    EXPECT_EQ(refusal(path).find("caches"), std::string::npos) << path;
}

}  // namespace
}  // namespace loraine::cache_test
