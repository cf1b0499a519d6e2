// Templates, namespaces, lambdas, virtual functions, anonymous namespaces.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace geometry {
struct Shape {
	virtual ~Shape() = default;
	virtual double area(double scale) const = 0;
};
template <typename Number, int Sides> struct Polygon : Shape {
	std::vector<Number> lengths = std::vector<Number>(Sides, Number(2));
	double area(double scale) const override
	{
		double sum = 0;
		for (auto length : lengths)
			sum += length * scale;
		return sum;
	}
	template <typename Other> __attribute__((noinline)) bool same(const Other &other) const
	{
		return lengths.size() == other.lengths.size();
	}
};
namespace {
__attribute__((noinline)) int anonymous(const std::map<std::string, int> &words)
{
	int total = 0;
	for (const auto &[word, count] : words)
		total += count * int(word.size());
	return total;
}
} // namespace
inline namespace v2 {
__attribute__((noinline)) std::string joined(std::vector<std::string> parts)
{
	std::sort(parts.begin(), parts.end(), [](const auto &a, const auto &b) { return a > b; });
	std::string all;
	for (auto &part : parts)
		all += part + ",";
	return all;
}
} // namespace v2
} // namespace geometry

__attribute__((noinline)) int apply(const std::function<int(int)> &function) { return function(7); }

int main(int argc, char **argv)
{
	std::unique_ptr<geometry::Shape> shape;
	if (argc > 3)
		shape = std::make_unique<geometry::Polygon<int, 4>>();
	else
		shape = std::make_unique<geometry::Polygon<double, 3>>();
	geometry::Polygon<float, 5> other;
	int added = apply([argc](int value) { return value + argc; });
	printf("%f %s %d %d %d\n", shape->area(3), geometry::joined({argv, argv + argc}).c_str(), added,
	       geometry::anonymous({{"a", 1}, {"bc", argc}}), other.same(geometry::Polygon<long, 5>()));
	return 0;
}
