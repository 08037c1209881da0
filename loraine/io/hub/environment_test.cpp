// What the variables of others mean here.
#include "loraine/io/hub/environment.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine::environment_test {
namespace {

const char* const kVariables[] = {"HF_HUB_OFFLINE",
                                  "TRANSFORMERS_OFFLINE",
                                  "HF_ENDPOINT",
                                  "MODELSCOPE_ENDPOINT",
                                  "MODELSCOPE_DOMAIN",
                                  "HF_TOKEN",
                                  "HUGGING_FACE_HUB_TOKEN",
                                  "HF_TOKEN_PATH",
                                  "HF_HOME",
                                  "HF_HUB_CACHE",
                                  "HUGGINGFACE_HUB_CACHE",
                                  "XDG_CACHE_HOME",
                                  "HF_HUB_DISABLE_IMPLICIT_TOKEN",
                                  "HF_HUB_DOWNLOAD_TIMEOUT",
                                  "MODELSCOPE_API_TOKEN",
                                  "USE_MODELSCOPE_HUB",
                                  "MODELSCOPE_CACHE",
                                  "HOME"};

class HubEnvironment : public testing::Test {
 protected:
  std::filesystem::path root;
  std::vector<std::optional<std::string>> before;
  void SetUp() override {
    char name[] = "/tmp/loraine_env_XXXXXX";
    root = mkdtemp(name);
    for (const char* variable : kVariables) {
      const char* value = std::getenv(variable);
      before.push_back(value ? std::optional<std::string>(value) : std::nullopt);
      unsetenv(variable);
    }
    setenv("HOME", root.c_str(), 1);
  }
  void TearDown() override {
    for (size_t i = 0; i < before.size(); ++i)
      if (before[i]) setenv(kVariables[i], before[i]->c_str(), 1);
      else unsetenv(kVariables[i]);
    std::filesystem::remove_all(root);
  }
};

TEST_F(HubEnvironment, Offline) {
  EXPECT_FALSE(offline());
  for (const char* yes : {"1", "ON", "yes", "True"}) {
    setenv("TRANSFORMERS_OFFLINE", yes, 1);
    EXPECT_TRUE(offline()) << yes;
  }
  setenv("HF_HUB_OFFLINE", "0", 1);  // said by the nearer one
  EXPECT_FALSE(offline());
}

TEST_F(HubEnvironment, Endpoints) {
  EXPECT_EQ(endpoint(Hub::hugging_face), "https://huggingface.co");
  EXPECT_EQ(endpoint(Hub::modelscope), "https://www.modelscope.cn");
  setenv("HF_ENDPOINT", "http://mirror.example:81/hf//", 1);
  EXPECT_EQ(endpoint(Hub::hugging_face), "http://mirror.example:81/hf");
  setenv("MODELSCOPE_DOMAIN", "www.modelscope.ai", 1);
  EXPECT_EQ(endpoint(Hub::modelscope), "https://www.modelscope.ai");
  for (const char* bad : {"mirror.example", "https://", "ftp://x", "https://a b", "https://user:word@mirror.example", "file:///etc"}) {
    setenv("HF_ENDPOINT", bad, 1);
    EXPECT_THROW(endpoint(Hub::hugging_face), Error) << bad;
  }
}

TEST_F(HubEnvironment, Caches) {
  HubAccess access;
  EXPECT_EQ(cache_root(Hub::hugging_face, access), root / ".cache/huggingface/hub");
  setenv("HF_HOME", "~/hf", 1);
  EXPECT_EQ(cache_root(Hub::hugging_face, access), root / "hf/hub");
  setenv("HF_HUB_CACHE", "/cache", 1);
  EXPECT_EQ(cache_root(Hub::hugging_face, access), "/cache");
  access.cache_dir = "here";
  EXPECT_EQ(cache_root(Hub::hugging_face, access), "here");
  EXPECT_EQ(cache_root(Hub::modelscope, access), "here");
}

TEST_F(HubEnvironment, Tokens) {
  HubAccess access;
  EXPECT_EQ(hub_token(Hub::hugging_face, access).secret, "");
  make_folders((root / ".cache/huggingface").string());
  write_file((root / ".cache/huggingface/token").string(), " hf_file\n");
  EXPECT_EQ(hub_token(Hub::hugging_face, access).secret, "hf_file");
  setenv("HUGGING_FACE_HUB_TOKEN", "hf_old", 1);
  EXPECT_EQ(hub_token(Hub::hugging_face, access).secret, "hf_old");
  setenv("HF_TOKEN", "hf_variable", 1);
  EXPECT_EQ(hub_token(Hub::hugging_face, access).secret, "hf_variable");
  EXPECT_EQ(hub_token(Hub::hugging_face, access).origin, "HF_TOKEN");
  setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1", 1);
  EXPECT_EQ(hub_token(Hub::hugging_face, access).secret, "");
  EXPECT_EQ(hub_token(Hub::hugging_face, access, true).secret, "hf_variable");
  access.token = "hf_key";
  EXPECT_EQ(hub_token(Hub::hugging_face, access).secret, "hf_key");
  EXPECT_EQ(hub_token(Hub::modelscope, access).secret, "");
  for (const std::string bad : {"two words", "line\r\nX-Header: x", "\x80"}) {
    access.token = bad;
    EXPECT_THROW(hub_token(Hub::hugging_face, access), Error);
  }
}

TEST_F(HubEnvironment, Timeouts) {
  EXPECT_EQ(download_timeout(), 10);
  setenv("HF_HUB_DOWNLOAD_TIMEOUT", "30", 1);
  EXPECT_EQ(download_timeout(), 30);
  for (const char* bad : {"0", "-1", "x", "1.5"}) {
    setenv("HF_HUB_DOWNLOAD_TIMEOUT", bad, 1);
    EXPECT_THROW(download_timeout(), Error) << bad;
  }
}

}  // namespace
}  // namespace loraine::environment_test
