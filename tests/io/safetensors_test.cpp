#include "deltatune/io/safetensors.hpp"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

namespace deltatune {
namespace {

using Catch::Contains;
using test::content_of;
using test::error_text;
using test::TemporaryFolder;

std::string file_with_length(std::uint64_t length, std::string_view rest) {
  std::string file(sizeof(length), '\0');
  std::memcpy(file.data(), &length, sizeof(length));
  return file.append(rest);
}

std::string make_file(std::string_view header, std::string_view data = {}) { return file_with_length(header.size(), std::string(header).append(data)); }

SafeTensors parse(const std::string& file) { return SafeTensors::parse(std::as_bytes(std::span(file)), "x.safetensors"); }

std::string parse_error(const std::string& file) {
  return error_text([&] { parse(file); });
}

// A file with one tensor "t" and `size` bytes of data.
std::string one_tensor(std::string_view dtype, std::string_view shape, std::string_view offsets, std::size_t size) {
  std::string header = R"({"t":{"dtype":)";
  header.append(dtype).append(R"(,"shape":)").append(shape).append(R"(,"data_offsets":)").append(offsets).append("}}");
  return make_file(header, std::string(size, '\0'));
}

template <class T>
std::string raw(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

TEST_CASE("safetensors: what the writer wrote comes back", "[safetensors]") {
  const TemporaryFolder folder;
  const auto path = folder / "x.safetensors";
  const std::vector<float> floats{1.5f, -2.0f, 3.25f};
  const std::vector<double> doubles{0.1, -1e300};
  const std::vector<std::int64_t> integers{-1, std::int64_t{1} << 62};
  SafeTensorsWriter writer;
  writer.add("b.float", {3, 1}, floats);
  writer.add("a.double", {2}, doubles);
  writer.add("c.integer", {1, 2}, integers);
  writer.add_copy("scalar", {}, std::vector<float>{7.0f});
  writer.add_copy("empty", {0, 4}, std::vector<float>{});
  writer.add_copy("copied", {2}, std::vector<std::int64_t>{5, 6});
  writer.set_metadata("made_by", "test");
  writer.write(path);
  CHECK(folder.names() == std::set<std::string>{"x.safetensors"});

  SafeTensors opened = SafeTensors::open(path);
  const SafeTensors file = std::move(opened);
  CHECK(file.tensors().size() == 6);
  CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}, {"made_by", "test"}});
  const TensorInfo& b = file.at("b.float");
  CHECK(b.name == "b.float");
  CHECK(b.dtype == DType::F32);
  CHECK(b.shape == Shape{3, 1});
  CHECK(b.file == path.string());
  std::vector<float> read(3);
  read_floats<float>(b, read);
  CHECK(read == floats);
  std::vector<double> read_double(2);
  read_floats<double>(file.at("a.double"), read_double);
  CHECK(read_double == doubles);
  CHECK(read_integers(file.at("c.integer")) == integers);
  CHECK(read_integers(file.at("copied")) == std::vector<std::int64_t>{5, 6});
  float scalar = 0;
  read_floats<float>(file.at("scalar"), std::span(&scalar, 1));
  CHECK(scalar == 7.0f);
  CHECK(file.at("scalar").shape.empty());
  CHECK(file.at("empty").bytes.empty());
  CHECK(file.find("none") == nullptr);
  CHECK_THAT(error_text([&] { file.at("none"); }), Contains("x.safetensors: has no tensor \"none\""));
}

TEST_CASE("safetensors: the file's layout", "[safetensors]") {
  const TemporaryFolder folder;
  const std::vector<float> odd{1, 2, 3};
  const std::vector<std::int64_t> wide{4};
  SafeTensorsWriter first;
  first.add("a", {3}, odd);
  first.add("z", {1}, wide);
  SafeTensorsWriter second;
  second.add("z", {1}, wide);
  second.add("a", {3}, odd);
  first.write(folder / "first");
  second.write(folder / "second");
  const std::string bytes = content_of(folder / "first");
  CHECK(bytes == content_of(folder / "second"));

  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  CHECK(length % 8 == 0);
  const std::string header = bytes.substr(8, length);
  CHECK(header.substr(0, header.find_last_not_of(' ') + 1) == R"({"__metadata__":{"format":"pt"},"a":{"data_offsets":[8,20],"dtype":"F32","shape":[3]},)"
                                                              R"("z":{"data_offsets":[0,8],"dtype":"I64","shape":[1]}})");
  CHECK(bytes.size() == 8 + length + 20);
  CHECK(bytes.substr(8 + length) == raw<std::int64_t>({4}) + raw<float>({1, 2, 3}));
}

TEST_CASE("safetensors: a tensor is handed on from file to file with its dtype", "[safetensors]") {
  const TemporaryFolder folder;
  const std::string file = make_file(R"({"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}})", raw<std::uint16_t>({0x3c00, 0xc000}));
  const SafeTensors source = parse(file);
  SafeTensorsWriter writer;
  writer.add(source.at("h"));
  writer.write(folder / "out");
  const SafeTensors copy = SafeTensors::open(folder / "out");
  CHECK(copy.at("h").dtype == DType::F16);
  std::vector<float> values(2);
  read_floats<float>(copy.at("h"), values);
  CHECK(values == std::vector<float>{1.0f, -2.0f});
}

TEST_CASE("safetensors: every dtype that is read, at odd addresses", "[safetensors]") {
  const std::string data = "\x7f" + raw<double>({0.1, -2.0}) + raw<float>({0.5f}) + raw<std::uint16_t>({0x3c00, 0x3f80}) + raw<std::int64_t>({-5}) +
                           raw<std::int32_t>({-6}) + raw<std::int16_t>({-7}) + raw<std::int8_t>({-8}) + raw<std::uint8_t>({200}) + raw<std::uint8_t>({0, 1});
  const std::string file = make_file(R"({"first":{"dtype":"I8","shape":[1],"data_offsets":[0,1]},
    "f64":{"dtype":"F64","shape":[2],"data_offsets":[1,17]},
    "f32":{"dtype":"F32","shape":[1],"data_offsets":[17,21]},
    "f16":{"dtype":"F16","shape":[1],"data_offsets":[21,23]},
    "bf16":{"dtype":"BF16","shape":[1],"data_offsets":[23,25]},
    "i64":{"dtype":"I64","shape":[1],"data_offsets":[25,33]},
    "i32":{"dtype":"I32","shape":[1],"data_offsets":[33,37]},
    "i16":{"dtype":"I16","shape":[1],"data_offsets":[37,39]},
    "i8":{"dtype":"I8","shape":[1],"data_offsets":[39,40]},
    "u8":{"dtype":"U8","shape":[1],"data_offsets":[40,41]},
    "bool":{"dtype":"BOOL","shape":[2],"data_offsets":[41,43]}})",
                                     data);
  const SafeTensors tensors = parse(file);
  const auto floats = [&](const char* name) {
    std::vector<float> values(static_cast<std::size_t>(element_count(tensors.at(name).shape)));
    read_floats<float>(tensors.at(name), values);
    return values;
  };
  CHECK(floats("f64") == std::vector<float>{0.1f, -2.0f});
  CHECK(floats("f32") == std::vector<float>{0.5f});
  CHECK(floats("f16") == std::vector<float>{1.0f});
  CHECK(floats("bf16") == std::vector<float>{1.0f});
  using Integers = std::vector<std::int64_t>;
  CHECK(read_integers(tensors.at("i64")) == Integers{-5});
  CHECK(read_integers(tensors.at("i32")) == Integers{-6});
  CHECK(read_integers(tensors.at("i16")) == Integers{-7});
  CHECK(read_integers(tensors.at("i8")) == Integers{-8});
  CHECK(read_integers(tensors.at("u8")) == Integers{200});
  CHECK(read_integers(tensors.at("bool")) == Integers{0, 1});

  std::vector<float> one(1);
  CHECK(error_text([&] { read_floats<float>(tensors.at("i64"), one); }) ==
        "x.safetensors: i64: wrong dtype; expected a floating-point tensor (F64, F32, F16 or BF16), got I64");
  CHECK(error_text([&] { read_integers(tensors.at("f32")); }) ==
        "x.safetensors: f32: wrong dtype; expected an integer tensor (I64, I32, I16, I8, U8 or BOOL), got F32");
  CHECK(error_text([&] { read_floats<float>(tensors.at("f64"), one); }) == "x.safetensors: f64: wrong number of elements; expected 1, got 2, shape [2]");
}

TEST_CASE("safetensors: names and sizes of dtypes agree with their enumerators", "[safetensors]") {
  for (std::size_t i = 0; i < std::size(detail::kDTypes); ++i) CHECK(static_cast<std::size_t>(detail::kDTypes[i].dtype) == i);
  CHECK(to_string(DType::BOOL) == "BOOL");
  CHECK(size_of(DType::F64) == 8);
  CHECK(size_of(DType::BF16) == 2);
}

TEST_CASE("safetensors: valid files at the edges", "[safetensors]") {
  CHECK(parse(make_file("{}")).tensors().empty());
  CHECK(parse(make_file("{}      ")).tensors().empty());
  CHECK(parse(one_tensor("\"F32\"", "[0]", "[0,0]", 0)).at("t").bytes.empty());
  CHECK(parse(one_tensor("\"F32\"", "[0,4611686018427387904,4]", "[0,0]", 0)).at("t").bytes.empty());
  CHECK(parse(one_tensor("\"U64\"", "[]", "[0,8]", 8)).at("t").shape.empty());
  const std::string empty_in_the_middle =
      make_file(R"({"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[0],"data_offsets":[1,1]},)"
                R"("c":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                "xy");
  CHECK(parse(empty_in_the_middle).tensors().size() == 3);
}

TEST_CASE("safetensors: corrupt headers", "[safetensors]") {
  CHECK(parse_error("") == "x.safetensors: not a safetensors file; expected at least 8 bytes, got 0");
  CHECK_THAT(parse_error("1234567"), Contains("got 7"));
  CHECK_THAT(parse_error(file_with_length(3, "{}")), Contains("header reaches beyond the end of the file") && Contains("got 3"));
  CHECK_THAT(parse_error(file_with_length(~std::uint64_t{0}, "{}")), Contains("header length too large"));
  CHECK_THAT(parse_error("PK\x03\x04" + std::string(100, 'x')), Contains("not a safetensors file"));
  CHECK_THAT(parse_error(make_file("")), Contains("does not begin with {"));
  CHECK_THAT(parse_error(make_file(" {}")), Contains("does not begin with {"));
  CHECK_THAT(parse_error(make_file("{\"a\":")), Contains("x.safetensors: header: not valid JSON at line 1, column"));
  CHECK_THAT(parse_error(make_file("{}x")), Contains("not valid JSON"));
  CHECK_THAT(parse_error(make_file(std::string("{}\0", 3))), Contains("not valid JSON"));
  CHECK_THAT(parse_error(make_file(R"({"t":)" + std::string(100'000, '['))), Contains("nested more than"));
  CHECK_THAT(parse_error(make_file(R"({"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"t":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})")),
             Contains("the key \"t\" stands twice"));
  CHECK_THAT(parse_error(make_file(R"({"t":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})")), Contains("the key \"dtype\" stands twice"));
  CHECK(parse_error(make_file(R"({"__metadata__":[]})")) == "x.safetensors: __metadata__: wrong type; expected an object of strings, got an array");
  CHECK(parse_error(make_file(R"({"__metadata__":{"a":1}})")) == "x.safetensors: __metadata__: a: wrong type; expected a string, got number 1");
}

TEST_CASE("safetensors: corrupt tensor entries", "[safetensors]") {
  CHECK_THAT(parse_error(make_file(R"({"t":1})")), Contains("x.safetensors: t: wrong type"));
  CHECK(parse_error(make_file(R"({"t":{"shape":[0],"data_offsets":[0,0]}})")) == "x.safetensors: t: dtype: is missing");
  CHECK(parse_error(make_file(R"({"t":{"dtype":"U8","data_offsets":[0,0]}})")) == "x.safetensors: t: shape: is missing");
  CHECK(parse_error(make_file(R"({"t":{"dtype":"U8","shape":[0]}})")) == "x.safetensors: t: data_offsets: is missing");
  CHECK_THAT(parse_error(one_tensor("\"F31\"", "[1]", "[0,4]", 4)),
             Contains("x.safetensors: t: dtype: unknown element type; expected one of F64, F32") && Contains("got string \"F31\""));
  CHECK_THAT(parse_error(one_tensor("4", "[1]", "[0,4]", 4)), Contains("unknown element type") && Contains("got number 4"));
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "1", "[0,4]", 4)), Contains("t: shape: wrong type"));
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "[-1]", "[0,4]", 4)), Contains("t: shape: wrong value") && Contains("got number -1"));
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "[1.0]", "[0,4]", 4)), Contains("t: shape: wrong value"));
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "[9223372036854775808]", "[0,4]", 4)), Contains("t: shape: wrong value"));
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "[4294967296,4294967296]", "[0,0]", 0)), Contains("too many elements"));
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "[4611686018427387904]", "[0,0]", 0)), Contains("too many elements"));
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "[1]", "[0]", 4)), Contains("a list of two integers"));
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "[1]", "[0,4,8]", 4)), Contains("a list of two integers"));
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "[1]", "{\"0\":0,\"1\":4}", 4)), Contains("a list of two integers"));
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "[1]", "[-4,0]", 4)), Contains("t: data_offsets: wrong value"));
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "[1]", "[4,0]", 4)), Contains("the end lies before the beginning; got [4,0]"));
  CHECK(parse_error(one_tensor("\"F32\"", "[1]", "[0,4]", 3)) ==
        "x.safetensors: t: data_offsets: reaches beyond the end of the file; expected at most 3, got 4 (the file is truncated or corrupt; "
        "fetch it again)");
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]", 4)), Contains("beyond the end of the file"));
  CHECK(parse_error(one_tensor("\"F32\"", "[2]", "[0,4]", 4)) ==
        "x.safetensors: t: data_offsets: the number of bytes does not fit dtype and shape; expected 8 for F32 [2], got 4");
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "[1]", "[1,5]", 5)), Contains("leaves bytes before it that belong to no tensor"));
  CHECK_THAT(parse_error(one_tensor("\"F32\"", "[1]", "[0,4]", 5)), Contains("bytes at the end belong to no tensor"));
  CHECK_THAT(parse_error(make_file("{}", "x")), Contains("bytes at the end belong to no tensor"));
}

TEST_CASE("safetensors: overlaps and holes between tensors", "[safetensors]") {
  const auto two = [](const char* first, const char* second, std::size_t size) {
    return make_file(
        std::string(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)") + first + R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}",
        std::string(size, '\0'));
  };
  CHECK(parse(two("[4,8]", "[0,4]", 8)).tensors().size() == 2);
  CHECK(parse_error(two("[0,4]", "[3,7]", 7)) == "x.safetensors: b: data_offsets: overlaps the tensor \"a\"; expected to begin at 4, got 3");
  CHECK_THAT(parse_error(two("[0,4]", "[0,4]", 4)), Contains("overlaps the tensor"));
  CHECK(parse_error(two("[0,4]", "[5,9]", 9)) ==
        "x.safetensors: b: data_offsets: leaves bytes before it that belong to no tensor; expected to begin at 4, got 5");
}

TEST_CASE("safetensors: a file cut at any byte is refused", "[safetensors]") {
  const std::string whole = make_file(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", std::string(8, '\1'));
  CHECK_NOTHROW(parse(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) CHECK_THROWS_AS(parse(whole.substr(0, size)), Error);
}

TEST_CASE("safetensors: files that cannot be opened", "[safetensors]") {
  const TemporaryFolder folder;
  CHECK_THAT(error_text([&] { SafeTensors::open(folder / "none"); }), Contains("none: cannot open the file: No such file"));
  CHECK_THAT(error_text([&] { SafeTensors::open(folder.path()); }), Contains("is not a regular file"));
  CHECK_THAT(error_text([&] { SafeTensors::open(folder.file("empty", "")); }), Contains("empty: not a safetensors file"));
  CHECK_THAT(error_text([&] { SafeTensors::open(folder.file("text", "version https://git-lfs.github.com/spec/v1\n")); }), Contains("is a Git LFS pointer"));
}

TEST_CASE("SafeTensorsWriter refuses what no file may hold", "[safetensors]") {
  const TemporaryFolder folder;
  const std::vector<float> values(6);
  SafeTensorsWriter writer;
  writer.add("w", {2, 3}, values);
  CHECK_THAT(error_text([&] { writer.add("w", {6}, values); }), Contains("w: a tensor of this name has been added already"));
  CHECK(error_text([&] { writer.add("v", {5}, values); }) == "v: the shape does not fit the number of values; expected 6 elements, got [5]");
  CHECK_THAT(error_text([&] { writer.add("v", {-2, -3}, values); }), Contains("is negative; got [-2, -3]"));
  CHECK_THAT(error_text([&] { writer.add("v", {Index{1} << 62, 4}, values); }), Contains("too many elements"));
  CHECK_THAT(error_text([&] { writer.add("__metadata__", {6}, values); }), Contains("reserved"));
  CHECK_THAT(error_text([&] { writer.write(folder / "none/x"); }), Contains("cannot create the file"));
  writer.add("\xff", {6}, values);
  CHECK_THAT(error_text([&] { writer.write(folder / "x"); }), Contains("not valid UTF-8"));
  CHECK(folder.names().empty());
}

}  // namespace
}  // namespace deltatune
