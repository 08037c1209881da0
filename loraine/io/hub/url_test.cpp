// Whose address is whose: this decides who gets a token.
#include "loraine/io/hub/url.h"

#include <gtest/gtest.h>

namespace loraine::url_test {
namespace {

TEST(Url, OfOneOrigin) {
  EXPECT_TRUE(same_origin("https://hub.org/a", "https://HUB.org:443"));
  EXPECT_FALSE(same_origin("http://hub.org/a", "https://hub.org"));
  EXPECT_FALSE(same_origin("https://hub.org:444/a", "https://hub.org"));
  EXPECT_FALSE(same_origin("https://hub.org.evil.net/a", "https://hub.org"));
  EXPECT_FALSE(same_origin("https://hub.org@evil.net/a", "https://hub.org"));
}

TEST(Url, OfOneDomain) {
  for (const char* url : {"https://hub.org/x", "https://lfs.hub.org/x", "https://a.b.HUB.org:8443/x", "https://www.hub.org"}) {
    EXPECT_TRUE(same_domain(url, "https://hub.org")) << url;
    EXPECT_TRUE(same_domain(url, "https://www.hub.org/")) << url;
  }
  for (const char* url :
       {"http://lfs.hub.org/x", "https://nothub.org", "https://hub.org.evil.net", "https://hub.org@evil.net/", "https://org", "hub.org"})
    EXPECT_FALSE(same_domain(url, "https://hub.org")) << url;
  EXPECT_FALSE(same_domain("https://lfs.hub.org", "http://hub.org"));        // a hub that is asked openly
  EXPECT_FALSE(same_domain("https://evil.localhost", "https://localhost"));  // a name alone is no domain
  EXPECT_FALSE(same_domain("https://9.127.0.0.1/", "https://127.0.0.1"));    // nor is a number
}

}  // namespace
}  // namespace loraine::url_test
