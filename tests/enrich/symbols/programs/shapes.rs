// Generics, traits, closures, inlining; compiled with either scheme of names.
use std::collections::HashMap;

trait Shape {
    fn area(&self, scale: f64) -> f64;
}

struct Square<T> {
    side: T,
}

impl<T: Copy + Into<f64>> Shape for Square<T> {
    #[inline(never)]
    fn area(&self, scale: f64) -> f64 {
        let side: f64 = self.side.into();
        grown(side, scale) * side
    }
}

#[inline(always)]
fn grown(value: f64, scale: f64) -> f64 {
    (0..value as u64).fold(scale, |sum, each| sum + (each as f64).sqrt())
}

#[inline(never)]
fn counted<'a, I: Iterator<Item = &'a str>>(words: I) -> HashMap<&'a str, usize> {
    let mut counts = HashMap::new();
    for word in words {
        *counts.entry(word).or_insert(0) += 1;
    }
    counts
}

#[inline(never)]
fn applied<F: FnMut(&mut [u8; 4], (i8, char)) -> bool, const N: usize>(mut function: F) -> usize {
    let mut bytes = [1, 2, 3, 4];
    (0..N).filter(|_| function(&mut bytes, (1, 'x'))).count()
}

fn main() {
    let shapes: Vec<Box<dyn Shape + Send>> =
        vec![Box::new(Square { side: 3.0f32 }), Box::new(Square { side: 5u8 })];
    let text = std::env::args().collect::<Vec<_>>().join(" ");
    let counts = counted(text.split(' '));
    let total: f64 = shapes.iter().map(|shape| shape.area(counts.len() as f64)).sum();
    let times = applied::<_, 9>(|bytes, (step, letter)| {
        bytes[0] = bytes[0].wrapping_add(step as u8);
        bytes[0] % 2 == 0 && letter != 'y'
    });
    println!("{total} {times}");
}
