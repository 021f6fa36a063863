/** `@peculiar/x509`, after the polyfill it finds its parts through. Import it from here, never by its name. */
import "npm:reflect-metadata@0.2.2";
export * from "@peculiar/x509";
